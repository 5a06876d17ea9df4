"""The label classes everyone starts with; the catalogue table is filled from here by migration, datasets copy it."""

from dataclasses import dataclass
from typing import Final

PALETTE: Final = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#332288",
    "#ddcc77",
    "#117733",
    "#88ccee",
    "#cc6677",
)
"""Told apart with any colour vision: Okabe and Ito 2008 without black, then Tol's muted scheme (SRON/EPS/TN/09-002)."""


@dataclass(frozen=True, slots=True)
class CatalogueClass:
    """`size_hwl`: height, width, length in metres of an ordinary specimen."""

    name: str
    text_prompt: str
    size_hwl: tuple[float, float, float]
    shortcut: str = ""


CATALOGUE: Final = (
    # Road users: means of the KITTI object training labels (car 1.53 x 1.63 x 3.88, truck 3.25 x 2.59 x 10.1,
    # cyclist 1.74 x 0.60 x 1.76); bus, motorcycle: means of nuScenes.
    CatalogueClass("person", "a person", (1.74, 0.60, 0.60), "p"),
    CatalogueClass("car", "a car", (1.53, 1.63, 3.88), "c"),
    CatalogueClass("truck", "a truck", (3.25, 2.59, 10.10), "t"),
    CatalogueClass("bus", "a bus", (3.44, 2.94, 11.20), "b"),
    CatalogueClass("bicycle", "a bicycle", (1.10, 0.60, 1.76), "y"),
    CatalogueClass("motorcycle", "a motorcycle", (1.47, 0.77, 2.11), "m"),
    # Things in yards and halls. Pallets are those of EN 13698-1; a crate is half a pallet box.
    CatalogueClass("crate", "a wooden crate", (0.80, 0.80, 1.00), "x"),
    CatalogueClass("cart", "a cart or delivery robot", (1.00, 0.70, 1.10), "k"),
    CatalogueClass("pallet", "a pallet", (0.15, 0.80, 1.20), "l"),
    CatalogueClass("forklift", "a forklift truck", (2.10, 1.20, 2.60), "f"),
    CatalogueClass("cone", "a traffic cone", (0.75, 0.40, 0.40), "o"),
    CatalogueClass("chair", "a chair", (0.90, 0.50, 0.55), "h"),
    CatalogueClass("table", "a table", (0.75, 0.80, 1.40), "d"),
    CatalogueClass("dog", "a dog", (0.55, 0.30, 0.85), "g"),
    CatalogueClass("animal", "an animal", (1.20, 0.60, 1.80), "a"),
)
