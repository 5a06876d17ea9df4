"""A stage is a frozen dataclass of its parameters that yields one commit per input frame.

It is a pure function of the files before it: killed at any point and started again with the last committed cursor and
state, it leaves the same bytes as an undisturbed run. Its files are in place before it yields the commit that speaks of
them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pipeline.segmentation.base import ClassSpec
from pipeline.storage.journal import Commit
from pipeline.storage.layout import SequenceLayout


@dataclass(frozen=True, slots=True)
class StageContext:
    """Where a stage works and what it works on.

    recording: path of the recording; calibration_folders: where `SN*.conf` and the like may be found;
    models_folders: where weights are found; class_head: file of the trained classifier that names what the segmenter
    found, if there is one; workers: how many threads it may keep busy.
    """

    layout: SequenceLayout
    recording: Path
    classes: Sequence[ClassSpec] = ()
    calibration_folders: Sequence[Path] = ()
    calibration_file: Path | None = None
    models_folders: Sequence[Path] = ()
    class_head: Path | None = None
    workers: int = 2
    log: Callable[[str], None] = field(default=lambda _message: None)


class Stage(Protocol):
    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]]
    weight: ClassVar[int]

    def total(self, context: StageContext) -> int:
        """How many input frames there are to do (for progress)."""
        ...

    def run(self, context: StageContext, cursor: int, state: dict[str, Any]) -> Iterator[Commit]:
        """Yield a commit for every input frame from `cursor` on. Close the generator to stop between two frames."""
        ...

    def finish(self, context: StageContext) -> None:
        """Write the stage's summary files (registry, detections.json, …) from its journal. Idempotent."""
        ...
