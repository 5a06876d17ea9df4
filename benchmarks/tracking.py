"""ByteTrack on MOTChallenge sequences: accuracy against the authors' implementation, and frames per second.

    python -m benchmarks.tracking [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds mot15, mot17_frcnn and mot_bytetrack_reference.json. Scored by
TrackEval (`pip install --no-deps trackeval`), MotChallenge2DBox with its preprocessing, class pedestrian; HOTA is the
mean over alpha. Boxes smaller than 100 px² or wider than 1.6 times their height are left out, as the authors do.
The speed is that of `update` alone, detections in memory, best of several runs that take turns, against an
implementation with an object per track, as the authors wrote theirs (`_byte_track_per_object`; somewhat faster than
theirs), and against the packages `bytetracker` (the authors' code; wants torch and lap) and `trackers` where they are
installed. In brackets: how many times as fast we are. Exits with 1 where a number is missed: each metric within 0.01,
and, where the authors' code is installed, 5 times its frame rate over all sequences.
"""

import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks._byte_track_per_object import PerObjectByteTracker
from pipeline.tracking.byte_track import ByteTracker

Frames = list[tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Boxes (m, 4) x1 y1 x2 y2 and scores (m,) of each frame."""

MIN_AREA = 100
MAX_ASPECT = 1.6
TOLERANCE = 0.01
LEAST_SPEEDUP = 5


class Tracker(Protocol):
    def update(self, boxes_xyxy: Any, scores: Any, /) -> Any: ...

    def tracks(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...


def sequences(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(benchmark, name, folder) of each sequence here."""
    for benchmark, sub in (("MOT15", "mot15"), ("MOT17", "mot17_frcnn")):
        for path in sorted((folder / sub).iterdir()):
            yield benchmark, path.name, path


def sequence_info(sequence: Path, key: str) -> int:
    """`seqLength` or `frameRate` of a sequence."""
    lines = (sequence / "seqinfo.ini").read_text().splitlines()
    return next(int(line.partition("=")[2]) for line in lines if line.startswith(f"{key}="))


def our_tracker(sequence: Path) -> ByteTracker:
    """With the buffer scaled to the frame rate, as the authors do: 30 frames at 30 a second."""
    return ByteTracker(track_threshold=0.6, match_threshold=0.9, buffer=sequence_info(sequence, "frameRate"))


def read_detections(sequence: Path) -> Frames:
    folder = next(path for name in ("det_frcnn_sort", "det") if (path := sequence / name).is_dir())
    rows = np.loadtxt(folder / "det.txt", delimiter=",", ndmin=2)
    rows[:, 4:6] += rows[:, 2:4]
    by_frame = [rows[rows[:, 0] == frame] for frame in range(1, sequence_info(sequence, "seqLength") + 1)]
    return [(np.ascontiguousarray(part[:, 2:6]), part[:, 6].copy()) for part in by_frame]


def track(tracker: Tracker, frames: Frames) -> list[tuple[int, int, NDArray[np.float64]]]:
    """(frame from 1, id, box x y w h) of every confirmed track in every frame."""
    found = []
    for number, (boxes, scores) in enumerate(frames, start=1):
        tracker.update(boxes, scores)
        for identity, box in zip(*tracker.tracks(), strict=True):
            width, height = box[2:] - box[:2]
            if width * height > MIN_AREA and width / height <= MAX_ASPECT:
                found.append((number, int(identity), np.array([box[0], box[1], width, height])))
    return found


def write_results(path: Path, found: list[tuple[int, int, NDArray[np.float64]]]) -> None:
    lines = (
        f"{frame},{identity},{','.join(f'{value:.2f}' for value in box)},1,-1,-1,-1" for frame, identity, box in found
    )
    path.write_text("\n".join(lines) + "\n")


def evaluate(benchmark: str, sequence: Path, results: Path) -> dict[str, float]:
    """HOTA, DetA, AssA, MOTA, IDF1, IDSW, FP, FN of a results file in MOTChallenge format, by TrackEval."""
    import trackeval

    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "ours" / "data"
        there.mkdir(parents=True)
        (there / f"{sequence.name}.txt").write_bytes(results.read_bytes())
        settings = {
            "GT_FOLDER": str(sequence.parent),
            "TRACKERS_FOLDER": scratch,
            "OUTPUT_FOLDER": scratch,
            "TRACKERS_TO_EVAL": ["ours"],
            "BENCHMARK": benchmark,
            "SEQ_INFO": {sequence.name: sequence_info(sequence, "seqLength")},
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            data = trackeval.datasets.MotChallenge2DBox(settings)
            raw = data.get_raw_seq_data("ours", sequence.name)
            prepared = data.get_preprocessed_seq_data(raw, "pedestrian")
            hota = trackeval.metrics.HOTA().eval_sequence(prepared)
            clear = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(prepared)
            identity = trackeval.metrics.Identity({"PRINT_CONFIG": False}).eval_sequence(prepared)
    return {
        **{name: float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")},
        "MOTA": float(clear["MOTA"]),
        "IDF1": float(identity["IDF1"]),
        "IDSW": int(clear["IDSW"]),
        "FP": int(clear["CLR_FP"]),
        "FN": int(clear["CLR_FN"]),
    }


def score(tracker: Tracker, benchmark: str, sequence: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.txt"
        write_results(results, track(tracker, read_detections(sequence)))
        return evaluate(benchmark, sequence, results)


Update = Callable[[Any, Any], Any]


def seconds(implementations: dict[str, Callable[[], Update]], frames: Frames, rounds: int = 7) -> dict[str, float]:
    """Best time of each for all frames; they take turns, so that a slow moment of the machine hits all of them."""
    best = dict.fromkeys(implementations, float("inf"))
    for _ in range(rounds):
        for name, make in implementations.items():
            update = make()
            start = time.perf_counter()
            for boxes, scores in frames:
                update(boxes, scores)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def authors_package() -> Update:
    """The authors' code, as the `bytetracker` package carries it."""
    import bytetracker
    import torch

    tracker = bytetracker.BYTETracker(track_thresh=0.6, track_buffer=30, match_thresh=0.9)
    return lambda boxes, scores: tracker.update(
        torch.from_numpy(np.column_stack([boxes, scores, np.zeros(len(scores))])), None
    )


def trackers_package() -> Update:
    """ByteTrack of the `trackers` package."""
    import supervision
    import trackers

    tracker = trackers.ByteTrackTracker()
    return lambda boxes, scores: tracker.update(supervision.Detections(xyxy=boxes, confidence=scores))


def implementations() -> dict[str, Callable[[], Update]]:
    """What is compared: ours, the baseline, and the packages that are installed."""
    found: dict[str, Callable[[], Update]] = {
        "ours": lambda: ByteTracker().update,
        "per object": lambda: PerObjectByteTracker().update,
    }
    for name, modules, make in (
        ("bytetracker", ("bytetracker", "torch", "lap"), authors_package),
        ("trackers", ("trackers", "supervision"), trackers_package),
    ):
        if all(importlib.util.find_spec(module) for module in modules):
            found[name] = make
    return found


def crowd(objects: int, count: int = 300) -> Frames:
    """Detections of objects that walk on straight lines through a full-HD picture, each seen nine times in ten."""
    rng = np.random.default_rng(0)
    centre, step = rng.uniform(0, [1920, 1080], (objects, 2)), rng.normal(0, 3, (objects, 2))
    size = rng.uniform([40, 80], [80, 200], (objects, 2))
    frames: Frames = []
    for number in range(count):
        shown = rng.random(objects) < 0.9
        middle = (centre + number * step + rng.normal(0, 1, (objects, 2)))[shown]
        boxes = np.concatenate([middle - size[shown] / 2, middle + size[shown] / 2], axis=1)
        frames.append((boxes, rng.uniform(0.3, 1, int(shown.sum()))))
    return frames


def print_speed(label: str, times: dict[str, float], frames: int) -> None:
    cells = (f"{frames / time:12.0f} ({time / times['ours']:4.1f}x)" for time in times.values())
    print(f"{label:<22}" + "".join(cells))


def main(folder: Path) -> int:
    reference = json.loads((folder / "mot_bytetrack_reference.json").read_text())["results"]
    passed = True
    print(f"{'sequence':<22}{'':<11}{'MOTA':>8}{'IDF1':>8}{'HOTA':>8}{'IDSW':>6}")
    for benchmark, name, sequence in sequences(folder):
        expected = reference[f"{benchmark}/{name}"]
        ours = score(our_tracker(sequence), benchmark, sequence)
        close = all(abs(ours[metric] - expected[metric]) <= TOLERANCE for metric in ("MOTA", "IDF1", "HOTA"))
        passed &= close
        for label, row in (("reference", expected), ("ours", ours)):
            numbers = "".join(f"{row[metric]:8.4f}" for metric in ("MOTA", "IDF1", "HOTA"))
            print(f"{name if label == 'reference' else '':<22}{label:<11}{numbers}{row['IDSW']:6d}")
        print(f"{'':<22}within {TOLERANCE}: {'yes' if close else 'NO'}")

    rivals = implementations()
    print(f"\n{'frames per second':<22}" + "".join(f"{name:>12}{'':>8}" for name in rivals))
    total, count = dict.fromkeys(rivals, 0.0), 0
    for _, name, path in sequences(folder):
        frames = read_detections(path)
        times = seconds(rivals, frames)
        total = {rival: total[rival] + times[rival] for rival in rivals}
        count += len(frames)
        print_speed(name, times, len(frames))
    print_speed("all sequences", total, count)
    if "bytetracker" in total:
        passed &= total["bytetracker"] >= LEAST_SPEEDUP * total["ours"]
    else:
        print("(the authors' code is not installed: pip install torch lap; pip install --no-deps bytetracker)")
    for objects in (20, 100):
        frames = crowd(objects)
        print_speed(f"crowd of {objects}", seconds(rivals, frames, rounds=3), len(frames))
    return 0 if passed else 1


if __name__ == "__main__":
    default = os.environ.get("FOVEA_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else default)))
