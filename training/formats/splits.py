"""Which frame goes into train, val or test: the same seed and the same data always give the same answer."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipeline.errors import ConfigurationError
from training.formats.base import SPLITS

UNITS: Final = ("frame", "sequence")


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """Ratios in 0…1 that sum to 1 (within 1e-6). Raises ConfigurationError naming the field.

    split_by "sequence" keeps a recording's frames together, so that neighbouring frames do not leak from train to test.
    """

    train_ratio: float = 0.7
    val_ratio: float = 0.2
    test_ratio: float = 0.1
    seed: int = 0
    split_by: str = "frame"

    def __post_init__(self) -> None:
        for split, ratio in zip(SPLITS, self.ratios, strict=True):
            number = isinstance(ratio, int | float) and not isinstance(ratio, bool)
            if not number or not 0 <= ratio <= 1:  # also refuses NaN
                raise ConfigurationError(f"{split}_ratio", f"{ratio!r} is not a number from 0 to 1.")
        if abs(math.fsum(self.ratios) - 1) > 1e-6:
            raise ConfigurationError(
                "train_ratio", f"train, val and test ratios sum to {math.fsum(self.ratios):g} instead of 1."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigurationError("seed", f"{self.seed!r} is not a whole number.")
        if self.split_by not in UNITS:
            raise ConfigurationError("split_by", f"{self.split_by!r} is not one of {', '.join(UNITS)}.")

    @property
    def ratios(self) -> tuple[float, float, float]:
        return (self.train_ratio, self.val_ratio, self.test_ratio)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def assign_splits(config: SplitConfig, frames: Sequence[tuple[str, int]]) -> list[int]:
    """For each frame, given as (sequence name, number), the place of its split in SPLITS.

    Raises ConfigurationError if fewer sequences than splits are to be divided by sequence.
    """
    if config.split_by == "sequence":
        sizes = Counter(sequence for sequence, _ in frames)
        chosen = _by_sequence(config, sizes)
        return [chosen[sequence] for sequence, _ in frames]
    order = sorted(range(len(frames)), key=lambda i: _rank(config.seed, f"{frames[i][0]}/{frames[i][1]}"))
    assigned = [0] * len(frames)
    start = 0
    for split, count in enumerate(largest_remainder(len(frames), config.ratios)):
        for i in order[start : start + count]:
            assigned[i] = split
        start += count
    return assigned


def largest_remainder(total: int, ratios: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, as near to the ratios as can be (Hamilton's method; ties to the first)."""
    quotas = [total * ratio for ratio in ratios]
    counts = [math.floor(quota + 1e-9) for quota in quotas]
    by_remainder = sorted(range(len(ratios)), key=lambda i: (counts[i] - quotas[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _by_sequence(config: SplitConfig, sizes: Counter[str]) -> dict[str, int]:
    """Deal the sequences, in the seed's order, each to the split that lacks most frames; no split goes empty."""
    wanted = [split for split, ratio in enumerate(config.ratios) if ratio > 0]
    if len(sizes) < len(wanted):
        raise ConfigurationError(
            "split_by",
            f"{len(sizes)} sequence(s) cannot be divided into {len(wanted)} splits; "
            "split by frame, or set the other ratios to 0.",
        )
    missing = {split: config.ratios[split] * sizes.total() for split in wanted}
    empty = set(wanted)
    chosen: dict[str, int] = {}
    order = sorted(sizes, key=lambda name: (_rank(config.seed, name), name))
    for place, name in enumerate(order):
        open_splits = empty if len(order) - place == len(empty) else wanted
        split = max(open_splits, key=lambda split: (missing[split], -split))
        chosen[name] = split
        missing[split] -= sizes[name]
        empty.discard(split)
    return chosen


def _rank(seed: int, key: str) -> bytes:
    """A place in the shuffle that depends on nothing but seed and key: no library's generator, no database's ids."""
    return hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
