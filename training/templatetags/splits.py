"""Split ratios as lengths, shares in percent, numbers for attributes."""

from typing import Any

from django import template

from training.formats.base import SPLITS

register = template.Library()


@register.filter
def split_edge(config: dict[str, Any], split: str) -> str:
    """Where the part of `split` ends on a bar of 100, the parts in the order train, val, test."""
    names = SPLITS[: SPLITS.index(split) + 1]
    return f"{100 * sum(config.get(f'{name}_ratio', 0) for name in names):.3f}"


@register.filter
def percent(value: float | None) -> str:
    """A share from 0 to 1 in percent; a dash where nothing is known."""
    return "–" if value is None or value == "" else f"{100 * value:.1f}%"


@register.filter
def unlocalized(value: float) -> str:
    """A number as SVG and HTML attributes want it, in whatever language the page is."""
    return f"{value:.4g}"
