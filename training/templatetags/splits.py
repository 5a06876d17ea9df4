"""Split ratios as lengths."""

from typing import Any

from django import template

from training.formats.base import SPLITS

register = template.Library()


@register.filter
def split_edge(config: dict[str, Any], split: str) -> str:
    """Where the part of `split` ends on a bar of 100, the parts in the order train, val, test."""
    names = SPLITS[: SPLITS.index(split) + 1]
    return f"{100 * sum(config.get(f'{name}_ratio', 0) for name in names):.3f}"
