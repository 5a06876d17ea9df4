"""Plots as numbers for a template to draw: SVG made on the server, no script."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

SIDE: Final = 240.0
"""Of the square in which confidence runs to the right and accuracy up, in units of the SVG."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin of confidence, in units of the SVG, y downwards. gap: between what was claimed and what was right."""

    x: float
    width: float
    y: float
    height: float
    gap_y: float
    gap_height: float
    share: float
    told: str


@dataclass(frozen=True, slots=True)
class ReliabilityPlot:
    side: float
    bars: list[Bar]
    samples: int


def reliability_plot(bins: Iterable[Mapping[str, Any]]) -> ReliabilityPlot:
    """Bars of accuracy over confidence: on the diagonal a model is as good as it says.

    bins: {"low", "high", "count", "confidence", "accuracy"} each (0 to 1), as pipeline.classification measures them;
    empty ones are left out.
    """
    filled = [item for item in bins if item["count"]]
    samples = sum(item["count"] for item in filled)
    bars = []
    for item in filled:
        right, claimed = item["accuracy"], item["confidence"]
        top, bottom = max(right, claimed), min(right, claimed)
        told = (
            f"{item['count']} labels said {item['low']:.0%} to {item['high']:.0%} sure: "
            f"{claimed:.1%} on average, {right:.1%} right"
        )
        bars.append(
            Bar(
                x=_rounded(item["low"] * SIDE),
                width=_rounded((item["high"] - item["low"]) * SIDE - 2),
                y=_rounded((1 - right) * SIDE),
                height=_rounded(right * SIDE),
                gap_y=_rounded((1 - top) * SIDE),
                gap_height=_rounded((top - bottom) * SIDE),
                share=_rounded(item["count"] / samples),
                told=told,
            )
        )
    return ReliabilityPlot(SIDE, bars, samples)


def _rounded(value: float) -> float:
    return round(float(value), 3)
