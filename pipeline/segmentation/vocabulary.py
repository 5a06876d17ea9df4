"""The 20 classes of PASCAL VOC and the words people use for them."""

import re
from typing import Final

from pipeline.segmentation.base import ClassSpec

VOC: Final = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""Index is the value in the network's output; 0 is background."""

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "aeroplane": ("airplane", "plane", "aircraft", "jet"),
    "bicycle": ("bike", "cycle", "pushbike"),
    "boat": ("ship", "vessel", "kayak", "canoe"),
    "bus": ("coach", "minibus"),
    "car": ("automobile", "vehicle", "sedan", "taxi", "van", "truck", "pickup", "suv", "lorry"),
    "cat": ("kitten",),
    "chair": ("stool", "armchair", "seat"),
    "cow": ("cattle", "bull", "calf"),
    "diningtable": ("dining table", "table", "desk"),
    "dog": ("puppy",),
    "horse": ("pony",),
    "motorbike": ("motorcycle", "moped", "scooter", "motor bike"),
    "person": (
        *("people", "pedestrian", "human", "man", "woman", "child", "kid", "boy", "girl", "worker", "walker"),
        *("person sitting", "passerby", "driver", "player", "skier", "hiker"),
    ),
    "pottedplant": ("potted plant", "plant", "flowerpot"),
    "sheep": ("lamb", "goat"),
    "sofa": ("couch", "settee"),
    "train": ("tram", "locomotive", "wagon"),
    "tvmonitor": ("tv monitor", "tv", "monitor", "television", "screen", "display"),
}
COMPOUNDS: Final[dict[str, tuple[str, ...]]] = {
    "cyclist": ("person", "bicycle"),
    "rider": ("person",),
    "bicyclist": ("person", "bicycle"),
    "motorcyclist": ("person", "motorbike"),
    "biker": ("person", "motorbike"),
}
"""Words that name a person together with what they ride: where both touch, they are one object."""
_WORD_TO_VOC: Final = {word: (name,) for name in VOC[1:] for word in (name, *SYNONYMS.get(name, ()))} | COMPOUNDS


def words(text: str) -> list[str]:
    """Lower-case words: "PersonSitting", "person_sitting" and "Person sitting" are alike."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return re.findall(r"[a-z0-9]+", text.lower())


def voc_names(spec: ClassSpec) -> tuple[str, ...]:
    """The VOC classes `spec` stands for, by its name, else by its text prompt; empty if none."""
    for text in (spec.name, spec.text_prompt):
        parts = words(text)
        # The longest phrase wins, the last word before the first: "a parked car" is a car.
        for length in range(len(parts), 0, -1):
            for start in range(len(parts) - length, -1, -1):
                phrase = " ".join(parts[start : start + length])
                for candidate in (phrase, phrase.removesuffix("s"), phrase.replace(" ", "")):
                    if candidate in _WORD_TO_VOC:
                        return _WORD_TO_VOC[candidate]
    return ()


def voc_indices(spec: ClassSpec) -> tuple[int, ...]:
    """Their indices in the network's output."""
    return tuple(VOC.index(name) for name in voc_names(spec))
