from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.errors import TooManyBadFramesError
from pipeline.stages.base import StageContext
from pipeline.stages.run import MAX_BAD_FRAMES, done_path, run_stage
from pipeline.storage.journal import Commit
from pipeline.storage.layout import SequenceLayout


@dataclass(frozen=True)
class Rotten:
    """A stage of which every frame fails."""

    frames: int
    name: str = "rotten"
    requires: tuple[str, ...] = ()
    weight: int = 1

    def total(self, context: StageContext) -> int:
        return self.frames

    def run(self, context: StageContext, cursor: int, state: dict) -> Iterator[Commit]:
        for done in range(cursor + 1, self.frames + 1):
            yield Commit(done, error=f"Frame {done - 1} is bad.")

    def finish(self, context: StageContext) -> None:
        pass


def frames_until_it_gives_up(context, interrupted_after):
    """How many frames are committed in all when the stage is interrupted again and again."""
    done = 0
    while True:
        commits = run_stage(Rotten(500), context)
        try:
            for _ in range(interrupted_after):
                done = next(commits)[0].cursor
        except TooManyBadFramesError:
            return done + 1
        finally:
            commits.close()


@pytest.mark.parametrize("interrupted_after", [1000, 60, 7])
def test_a_stage_gives_up_at_the_same_bad_frame_however_often_it_was_interrupted(tmp_path, interrupted_after):
    context = StageContext(SequenceLayout(tmp_path), tmp_path)
    assert frames_until_it_gives_up(context, interrupted_after) == max(MAX_BAD_FRAMES, 100) + 1
    assert not done_path(context.layout, "rotten").exists()
