"""ByteTrack on MOTChallenge sequences: accuracy against the authors' implementation, and frames per second.

    python -m benchmarks.tracking [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds mot15, mot17_frcnn and mot_bytetrack_reference.json. Scored by
TrackEval (`pip install --no-deps trackeval`), MotChallenge2DBox with its preprocessing, class pedestrian; HOTA is the
mean over alpha. Boxes smaller than 100 px² or wider than 1.6 times their height are left out, as the authors do.
Four rows for each sequence: the authors' implementation (from the reference file), `ByteTracker` with the authors'
parameters, ours online (as it comes from `ByteTracker`, with a buffer of two seconds), and ours with hindsight
(`pipeline.tracking.offline.refine`). One set of parameters for all sequences.

The speed is that of `update` alone, detections in memory, best of several runs that take turns, against an
implementation with an object per track, as the authors wrote theirs (`_byte_track_per_object`; somewhat faster than
theirs), and against the packages `bytetracker` (the authors' code; wants torch and lap) and `trackers` where they are
installed. In brackets: how many times as fast we are.

Exits with 1 where a target is missed: with the authors' parameters each metric within 0.01 of theirs; with hindsight
HOTA no less than theirs on every sequence and 0.02 more on average; online 0.02 more on average; 1,000 frames a second
with 20 objects; and, where the authors' code is installed, 5 times its frame rate over all sequences.
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
from pipeline.tracking.byte_track import AUTHORS, ByteTracker
from pipeline.tracking.offline import Refinement, Tracks, refine

Found = list[tuple[int, int, NDArray[np.float64]]]
"""Frame from 1, id, box x y w h."""
Frames = list[tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Boxes (m, 4) x1 y1 x2 y2 and scores (m,) of each frame."""

MIN_AREA = 100
MAX_ASPECT = 1.6
TOLERANCE = 0.01
LEAST_SPEEDUP = 5
LEAST_GAIN = 0.02
LEAST_RATE = 1000


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


def authors_tracker(sequence: Path) -> ByteTracker:
    """With the authors' parameters and the buffer scaled to the frame rate, as they do: 30 frames at 30 a second."""
    return ByteTracker(**AUTHORS | {"buffer": sequence_info(sequence, "frameRate")})


def our_tracker(sequence: Path) -> ByteTracker:
    """As it comes; the buffer scaled to the frame rate, 60 frames at 30 a second."""
    return ByteTracker(buffer=2 * sequence_info(sequence, "frameRate"))


def read_detections(sequence: Path) -> Frames:
    folder = next(path for name in ("det_frcnn_sort", "det") if (path := sequence / name).is_dir())
    rows = np.loadtxt(folder / "det.txt", delimiter=",", ndmin=2)
    rows[:, 4:6] += rows[:, 2:4]
    by_frame = [rows[rows[:, 0] == frame] for frame in range(1, sequence_info(sequence, "seqLength") + 1)]
    return [(np.ascontiguousarray(part[:, 2:6]), part[:, 6].copy()) for part in by_frame]


def track(tracker: Tracker, frames: Frames) -> Found:
    """Every confirmed track in every frame, as the tracker shows it in that frame."""
    found = []
    for number, (boxes, scores) in enumerate(frames, start=1):
        tracker.update(boxes, scores)
        ids, shown = tracker.tracks()
        found += rows(np.full(len(ids), number), ids, shown)
    return found


def rows(frames: NDArray[np.int64], ids: NDArray[np.int64], boxes_xyxy: NDArray[np.float64]) -> Found:
    """Without boxes that are too small or too wide to be a person's."""
    size = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    kept = (size.prod(axis=1) > MIN_AREA) & (size[:, 0] <= MAX_ASPECT * size[:, 1])
    boxes = np.concatenate([boxes_xyxy[:, :2], size], axis=1)[kept]
    return list(zip(frames[kept].tolist(), ids[kept].tolist(), boxes, strict=True))


def followed(tracker: ByteTracker, frames: Frames) -> Tracks:
    """The detections of every track that was confirmed at some time: what the pass with hindsight starts from."""
    confirmed: set[int] = set()
    columns: list[tuple[NDArray[Any], ...]] = []
    for number, (boxes, scores) in enumerate(frames, start=1):
        ids = tracker.update(boxes, scores)
        confirmed.update(ids[tracker.is_confirmed(ids)].tolist())
        columns.append((np.full(len(ids), number), ids, boxes, scores))
    every = [np.concatenate(column) for column in zip(*columns, strict=True)]
    kept = np.isin(every[1], sorted(confirmed))
    return Tracks(*(column[kept] for column in every))


def with_hindsight(sequence: Path, frames: Frames) -> Found:
    tracks = refine(followed(our_tracker(sequence), frames), Refinement())
    order = np.lexsort((tracks.ids, tracks.frames))
    return rows(tracks.frames[order], tracks.ids[order], tracks.boxes_xyxy[order])


def write_results(path: Path, found: Found) -> None:
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


def score(found: Found, benchmark: str, sequence: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results.txt"
        write_results(results, found)
        return evaluate(benchmark, sequence, results)


def score_all(benchmark: str, sequence: Path) -> dict[str, dict[str, float]]:
    """Scores of "parity" (the authors' parameters), "online" and "hindsight"."""
    frames = read_detections(sequence)
    return {
        "parity": score(track(authors_tracker(sequence), frames), benchmark, sequence),
        "online": score(track(our_tracker(sequence), frames), benchmark, sequence),
        "hindsight": score(with_hindsight(sequence, frames), benchmark, sequence),
    }


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


def verdict(text: str, *, met: bool) -> bool:
    print(f"{text}: {'yes' if met else 'NO'}")
    return met


def compare_accuracy(folder: Path) -> bool:
    reference = json.loads((folder / "mot_bytetrack_reference.json").read_text())["results"]
    passed = True
    gains: dict[str, list[float]] = {"online": [], "hindsight": []}
    print(f"{'sequence':<22}{'':<11}{'MOTA':>8}{'IDF1':>8}{'HOTA':>8}{'':>9}{'DetA':>8}{'AssA':>8}{'IDSW':>6}")
    for benchmark, name, sequence in sequences(folder):
        expected = reference[f"{benchmark}/{name}"]
        ours = score_all(benchmark, sequence)
        for label, row in (("reference", expected), *ours.items()):
            gain = row["HOTA"] - expected["HOTA"]
            numbers = "".join(f"{row[metric]:8.4f}" for metric in ("MOTA", "IDF1", "HOTA"))
            numbers += f" ({gain:+.3f})" + "".join(f"{row[metric]:8.4f}" for metric in ("DetA", "AssA"))
            print(f"{name if label == 'reference' else '':<22}{label:<11}{numbers}{row['IDSW']:6d}")
            if label in gains:
                gains[label].append(gain)
        passed &= all(abs(ours["parity"][each] - expected[each]) <= TOLERANCE for each in ("MOTA", "IDF1", "HOTA"))
    means = {label: float(np.mean(each)) for label, each in gains.items()}
    print(f"\nHOTA over the reference on average: online {means['online']:+.4f}, hindsight {means['hindsight']:+.4f}")
    passed = verdict(f"with the authors' parameters within {TOLERANCE} of the authors", met=passed)
    passed &= verdict(f"online {LEAST_GAIN} more on average", met=means["online"] >= LEAST_GAIN)
    passed &= verdict(f"hindsight {LEAST_GAIN} more on average", met=means["hindsight"] >= LEAST_GAIN)
    return passed & verdict("hindsight no less on every sequence", met=min(gains["hindsight"]) >= 0)


def compare_speed(folder: Path) -> bool:
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
    passed = True
    if "bytetracker" in total:
        passed = verdict(
            f"{LEAST_SPEEDUP} times as fast as the authors", met=total["bytetracker"] >= LEAST_SPEEDUP * total["ours"]
        )
    else:
        print("(the authors' code is not installed: pip install torch lap; pip install --no-deps bytetracker)")
    for objects in (20, 100):
        frames = crowd(objects)
        times = seconds(rivals, frames, rounds=3)
        print_speed(f"crowd of {objects}", times, len(frames))
        if objects == 20:
            passed &= verdict(f"{LEAST_RATE} frames a second", met=len(frames) / times["ours"] >= LEAST_RATE)
    tracks = followed(ByteTracker(), frames)
    start = time.perf_counter()
    refine(tracks, Refinement())
    print(f"hindsight: {len(frames) / (time.perf_counter() - start):.0f} frames per second with {objects} objects")
    return passed


def main(folder: Path) -> int:
    accurate = compare_accuracy(folder)
    return 0 if compare_speed(folder) and accurate else 1


if __name__ == "__main__":
    default = os.environ.get("FOVEA_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else default)))
