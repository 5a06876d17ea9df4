"""Run stages over one sequence with nothing but files: what the command line and the worker both stand on."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import Stopped, TooManyBadFramesError
from pipeline.stages.base import Stage, StageContext
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout

MAX_BAD_FRAMES = 50
"""Frames that may fail before the stage gives up, whatever their share."""
MAX_BAD_SHARE = 0.2
"""… and the share of the frames that may, where that is more."""


def journal_path(layout: SequenceLayout, stage_name: str) -> Path:
    return layout.journals / f"{stage_name}.jsonl"


def done_path(layout: SequenceLayout, stage_name: str) -> Path:
    """Exists once the stage's summary files are written."""
    return layout.journals / f"{stage_name}.done"


def run_stage(
    stage: Stage, context: StageContext, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Commit, int]]:
    """Run what is left of `stage`, yielding each new commit with the total, after it is in the journal.

    Raises Stopped between two frames when `should_stop` says so, TooManyBadFramesError past the limits,
    JournalBusyError if another process is at it.
    """
    if done_path(context.layout, stage.name).exists():
        return
    total = stage.total(context)
    with Journal(journal_path(context.layout, stage.name)) as journal:
        last = journal.last
        commits = stage.run(context, last.cursor if last else 0, dict(last.state) if last else {})
        try:
            while not should_stop():
                commit = next(commits, None)
                if commit is None:
                    break
                journal.append(commit)
                # Counted over all runs: how often a stage was interrupted must not change how it ends.
                if commit.error and journal.errors > max(MAX_BAD_FRAMES, MAX_BAD_SHARE * total):
                    raise TooManyBadFramesError(
                        f"{journal.errors} of {total} frames failed in {stage.name}; the last: {commit.error}"
                    )
                yield commit, total
            else:
                raise Stopped
        finally:
            close = getattr(commits, "close", None)
            if close:
                close()
        stage.finish(context)
        done_path(context.layout, stage.name).touch()
