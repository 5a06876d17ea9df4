"""How fast each stage goes over the demo recording, beside the decode limit, and what it holds in memory.

    python -m benchmarks.throughput [FRAMES]

Films the simulated street twice (FRAMES frames, default 60, and a quarter of them) and runs the four stages over both,
each stage in a process of its own. Baseline: decoding the recording and nothing else. "more memory" is the peak of the
long run minus that of the short one, in frames of the recording (both eyes, BGR): a stage that streams does not grow.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.recordings import open_recording
from pipeline.simulation.recording import CLASSES, SIZES, write_demo_recording
from pipeline.stages.base import StageContext
from pipeline.stages.building import build_stages
from pipeline.stages.plan import STAGE_NAMES, PipelineConfig
from pipeline.stages.run import run_stage
from pipeline.storage.layout import SequenceLayout

FRAMES = 60
MOST_FRAMES_HELD = 40
"""What a longer recording may cost in memory, in frames; noise of the allocator included."""


class Run(NamedTuple):
    frames: int
    seconds: float
    peak_bytes: int

    @property
    def per_second(self) -> float:
        return self.frames / self.seconds


def decoded(recording: Path, _out: Path, _stage: str) -> tuple[int, float]:
    with open_recording(recording, calibration_folders=[recording.parent]) as opened:
        started = time.perf_counter()
        return sum(1 for _ in opened.frames()), time.perf_counter() - started


def staged(recording: Path, out: Path, stage: str) -> tuple[int, float]:
    context = StageContext(SequenceLayout(out), recording, CLASSES, calibration_folders=[recording.parent])
    built = build_stages(PipelineConfig(segmenter="geometric"), "geometric")[stage]
    started = time.perf_counter()
    return sum(1 for _ in run_stage(built, context)), time.perf_counter() - started


def measured(recording: Path, out: Path, stage: str) -> Run:
    """`stage` (or "decode") over the recording in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (recording, out, stage))


def _run(recording: Path, out: Path, stage: str) -> Run:
    frames, seconds = (decoded if stage == "decode" else staged)(recording, out, stage)
    return Run(frames, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main(frames: int) -> int:
    width, height = SIZES["VGA"]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        films = {count: write_demo_recording(root / str(count), frames=count) for count in (frames, frames // 4)}
        print(f"\n{'stage':<18}{'frames/s':>10}{'of decoding':>13}{'peak MB':>10}{'more memory':>14}")
        limit = 0.0
        for stage in ("decode", *STAGE_NAMES):
            long, short = (measured(films[n].recording, root / f"out{n}", stage) for n in (frames, frames // 4))
            limit = limit or long.per_second
            held = (long.peak_bytes - short.peak_bytes) / (2 * 3 * width * height)
            missed += held > MOST_FRAMES_HELD
            print(
                f"{stage:<18}{long.per_second:>10.1f}{long.per_second / limit:>13.2f}"
                f"{long.peak_bytes / 2**20:>10.0f}{held:>8.1f} frames"
            )
    print(f"target: no stage holds more than {MOST_FRAMES_HELD} frames more for a recording four times as long")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES))
