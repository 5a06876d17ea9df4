"""The records of a stage, frame by frame, as they stream from its journal."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pipeline.storage.records import BoxRecord, DetectionRecord, TrackRecord

Numbered = TypeVar("Numbered", DetectionRecord, BoxRecord, TrackRecord)


class ByFrame(Generic[Numbered]):
    """Records that come ordered by frame, a frame at a time: asked for with growing frame numbers."""

    def __init__(self, records: Iterable[Numbered]) -> None:
        self._records: Iterator[Numbered] = iter(records)
        self._next: Numbered | None = next(self._records, None)
        self._number = -1
        self._current: dict[int, Numbered] = {}

    def of(self, number: int) -> dict[int, Numbered]:
        """By instance; empty where the frame has none."""
        if number != self._number:
            self._number, self._current = number, {}
            while self._next is not None and self._next.number <= number:
                if self._next.number == number:
                    self._current[self._next.instance] = self._next
                self._next = next(self._records, None)
        return self._current
