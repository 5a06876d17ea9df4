"""The tracker in space on KITTI tracking: PointRCNN's 3D detections against ground truth, beside AB3DMOT's method.

    python -m benchmarks.tracking3d [FOLDER]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds kitti_tracking. HOTA, MOTA, IDF1 and identity switches are
TrackEval's (`pip install --no-deps trackeval`) on 3D overlap: matches from 0.25 on, HOTA the mean over all thresholds.
Objects of KITTI's neighbouring classes (a van for a car) and DontCare regions are neither demanded nor held against
anyone. Nobody is told of the car's own motion: there is none in the data.

The baseline is written here after Weng et al., "3D Multi-Object Tracking: A Baseline and New Evaluation Metrics", IROS
2020: a Kalman filter of constant velocity per object, Hungarian assignment on 3D overlap, birth after three hits, death
after two misses. Each tracker gets the threshold on the detector's scores that suits it best.
The speed is that of `update` alone on a crowd of 20, in frames a second of processor time. Exits with 1 where MOTA or
HOTA of the cars over all sequences is below the baseline's, or the speed below 1,000. Of pedestrians and cyclists there
are too few here (and of their detections too many wrong ones) to say more than the numbers do.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.geometry.boxes3d import iou_3d
from pipeline.tracking.byte_track_3d import ByteTracker3D

Array = NDArray[np.float64]

CLASSES = {"Car": ("Van",), "Pedestrian": ("Person_sitting", "Person"), "Cyclist": ()}
"""Class, and what looks so like it that it is left out."""
SEQUENCES = ("0000", "0003", "0005", "0012", "0018")
MATCH_IOU = 0.25
LEAST_SPEED = 1000
THRESHOLDS = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Frame:
    """boxes_xyxy (m, 4), scores (m,) as the detector gives them (log-odds), cuboids (m, 7) in KITTI's conventions."""

    boxes_xyxy: Array
    scores: Array
    cuboids: Array


@dataclass(frozen=True)
class Truth:
    """ids (n,) and cuboids (n, 7) demanded; others (k, 7) and regions_xyxy (r, 4), DontCare: neither that nor wrong."""

    ids: NDArray[np.int64]
    cuboids: Array
    others: Array
    regions_xyxy: Array


Tracked = list[tuple[NDArray[np.int64], Array, Array]]
"""Ids, cuboids and image boxes of each frame."""


def read_detections(path: Path, frames: int) -> list[Frame]:
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    result = []
    for number in range(frames):
        part = rows[rows[:, 0] == number]
        cuboids = part[:, [10, 11, 12, 7, 8, 9, 13]]  # h w l x y z ry in the file
        result.append(Frame(part[:, 2:6].copy(), part[:, 6].copy(), cuboids))
    return result


def read_truth(path: Path, name: str) -> list[Truth]:
    found: dict[int, list[list[str]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        words = line.split()
        found[int(words[0])].append(words)
    result = []
    for number in range(max(found) + 1):
        rows = found[number]

        def cuboids(names: Iterable[str], rows: list[list[str]] = rows) -> Array:
            chosen = [[float(value) for value in row[10:17]] for row in rows if row[2] in names]
            return np.array(chosen).reshape(-1, 7)[:, [3, 4, 5, 0, 1, 2, 6]]

        ids = np.array([int(row[1]) for row in rows if row[2] == name], np.int64)
        regions = np.array([[float(v) for v in row[6:10]] for row in rows if row[2] == "DontCare"]).reshape(-1, 4)
        result.append(Truth(ids, cuboids([name]), cuboids(CLASSES[name]), regions))
    return result


def ours(frames: list[Frame], threshold: float) -> Tracked:
    """Scores above `threshold` are likelier right than wrong; the thresholds of ByteTrack stay its own."""
    tracker, result = ByteTracker3D(), []
    rows: list[tuple[NDArray[np.int64], Frame, list[bool]]] = []
    for frame in frames:
        ids = tracker.update(frame.boxes_xyxy, 1 / (1 + np.exp(threshold - frame.scores)), None, frame.cuboids)
        if rows:  # the next frame confirms what this one began
            before, shown, stood = rows[-1]
            rows[-1] = before, shown, [a or b for a, b in zip(stood, tracker.is_confirmed(before), strict=True)]
        rows.append((ids, frame, tracker.is_confirmed(ids)))
    for ids, frame, stands in rows:
        kept = np.array(stands, bool).reshape(-1) & (ids > 0)
        result.append((ids[kept], frame.cuboids[kept], frame.boxes_xyxy[kept]))
    return result


@dataclass
class _Object:
    """State: x y z yaw l w h and the velocity of x y z, with its covariance, as the authors have them."""

    identity: int
    state: Array
    covariance: Array
    box_xyxy: Array
    hits: int = 1
    misses: int = 0
    moved: Array = field(default_factory=lambda: _MOVED)

    @property
    def cuboid(self) -> Array:
        x, y, z, yaw, length, width, height = self.state[:7]
        return np.array([x, y, z, height, width, length, yaw])


_MOVED = np.eye(10) + np.diag(np.ones(3), 7)
_MEASURE = np.eye(7, 10)
_GROWS = np.diag([1.0] * 7 + [0.01] * 3)


def baseline(frames: list[Frame], threshold: float) -> Tracked:
    """AB3DMOT with the authors' parameters, over the detections above `threshold`."""
    objects: list[_Object] = []
    born, result = 0, []
    for number, frame in enumerate(frames):
        chosen = frame.scores > threshold
        cuboids, boxes = frame.cuboids[chosen], frame.boxes_xyxy[chosen]
        for each in objects:
            each.state = each.moved @ each.state
            each.covariance = each.moved @ each.covariance @ each.moved.T + _GROWS
            each.misses += 1
        taken = set()
        if objects and len(cuboids):
            overlap = iou_3d(np.array([each.cuboid for each in objects]), cuboids)
            for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[i, j] >= 0.01:
                    _correct(objects[i], cuboids[j], boxes[j])
                    taken.add(int(j))
        for j in range(len(cuboids)):
            if j not in taken:
                born += 1
                x, y, z, h, w, length, yaw = cuboids[j]
                state = np.array([x, y, z, yaw, length, w, h, 0, 0, 0])
                objects.append(_Object(born, state, np.diag([10.0] * 7 + [10_000.0] * 3), boxes[j]))
        objects = [each for each in objects if each.misses < 2]
        shown = [each for each in objects if each.misses < 2 and (each.hits >= 3 or number < 3)]
        result.append(
            (
                np.array([each.identity for each in shown], np.int64),
                np.array([each.cuboid for each in shown]).reshape(-1, 7),
                np.array([each.box_xyxy for each in shown]).reshape(-1, 4),
            )
        )
    return result


def _correct(each: _Object, cuboid: Array, box_xyxy: Array) -> None:
    x, y, z, h, w, length, yaw = cuboid
    measured = np.array([x, y, z, yaw, length, w, h])
    innovation = measured - each.state[:7]
    innovation[3] = (innovation[3] + np.pi / 2) % np.pi - np.pi / 2
    gain = each.covariance @ _MEASURE.T @ np.linalg.inv(_MEASURE @ each.covariance @ _MEASURE.T + np.eye(7))
    each.state = each.state + gain @ innovation
    each.covariance = (np.eye(10) - gain @ _MEASURE) @ each.covariance
    each.box_xyxy, each.hits, each.misses = box_xyxy, each.hits + 1, 0


def comparable(truth: list[Truth], tracked: Tracked) -> dict[str, Any]:
    """One sequence as TrackEval's metrics take it, without what lies on something left out and nothing demanded."""
    known: dict[int, int] = {}
    made: dict[int, int] = {}
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    for there, (ids, cuboids, boxes) in zip(truth, tracked, strict=True):
        overlap = iou_3d(there.cuboids, cuboids)
        pairs = zip(*linear_sum_assignment(-overlap), strict=True)
        right = {int(j) for i, j in pairs if overlap[i, j] >= MATCH_IOU}
        other = iou_3d(there.others, cuboids).max(axis=0, initial=0) >= MATCH_IOU
        dismissed = other | (_covered(boxes, there.regions_xyxy) > 0.5)
        kept = np.array([j in right or not dismissed[j] for j in range(len(ids))], bool).reshape(-1)
        data["gt_ids"].append(np.array([known.setdefault(int(i), len(known)) for i in there.ids], int))
        data["tracker_ids"].append(np.array([made.setdefault(int(i), len(made)) for i in ids[kept]], int))
        data["similarity_scores"].append(overlap[:, kept])
    data["num_gt_ids"], data["num_tracker_ids"] = len(known), len(made)
    data["num_gt_dets"] = sum(len(ids) for ids in data["gt_ids"])
    data["num_tracker_dets"] = sum(len(ids) for ids in data["tracker_ids"])
    data["num_timesteps"] = len(truth)
    return data


def _covered(boxes: Array, regions: Array) -> Array:
    """(n,) greatest share of each box (n, 4) that lies in one of the regions (r, 4)."""
    low, high = np.maximum(boxes[:, None, :2], regions[:, :2]), np.minimum(boxes[:, None, 2:], regions[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-9)
    return np.asarray((shared / area[:, None]).max(axis=1, initial=0))


def evaluate(sequences: dict[str, dict[str, Any]]) -> dict[str, float]:
    """HOTA, MOTA, IDF1 (0…1), IDSW over all sequences, by TrackEval."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    settings = {"THRESHOLD": MATCH_IOU, "PRINT_CONFIG": False}
    found: dict[str, float] = {}
    for metric in (HOTA(), CLEAR(settings), Identity(settings)):
        combined = metric.combine_sequences({name: metric.eval_sequence(data) for name, data in sequences.items()})
        for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW"):
            if name in combined:
                found[name] = float(np.mean(combined[name]))
    return found


def run(folder: Path, name: str, tracker: Callable[[list[Frame]], Tracked]) -> dict[str, float]:
    sequences = {}
    for sequence in SEQUENCES:
        truth = read_truth(folder / "label_02" / f"{sequence}.txt", name)
        frames = read_detections(folder / "detection" / f"pointrcnn_{name}_val" / f"{sequence}.txt", len(truth))
        sequences[sequence] = comparable(truth, tracker(frames))
    return evaluate(sequences)


def crowd(objects: int = 20, count: int = 300) -> Iterator[Frame]:
    """Detections of people who walk on straight lines, each seen nine times in ten."""
    rng = np.random.default_rng(0)
    place, step = rng.uniform((-10, 4), (10, 24), (objects, 2)), rng.normal(0, 0.08, (objects, 2))
    for number in range(count):
        seen = rng.random(objects) < 0.9
        x, z = (place + number * step + rng.normal(0, 0.05, (objects, 2)))[seen].T
        z = np.abs(z) + 2
        u, h = 600 + 700 * x / z, 1200 / z
        boxes = np.stack([u - h / 5, 180 - h / 2, u + h / 5, 180 + h / 2], axis=1)
        still = np.ones(len(x))
        cuboids = np.stack([x, 1.6 * still, z, 1.7 * still, 0.6 * still, 0.6 * still, 0 * still], axis=1)
        yield Frame(boxes, rng.uniform(0.5, 1, len(x)), cuboids)


def speed() -> float:
    frames, best = list(crowd()), float("inf")
    for _ in range(3):
        tracker, started = ByteTracker3D(), time.process_time()
        for frame in frames:
            tracker.update(frame.boxes_xyxy, frame.scores, np.zeros(len(frame.scores), int), frame.cuboids)
        best = min(best, time.process_time() - started)
    return len(frames) / best


def main(folder: Path) -> int:
    metrics = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")
    print(f"{'class':<12}{'tracker':<24}" + "".join(f"{metric:>8}" for metric in metrics))
    passed = True
    for name in CLASSES:
        rows = []
        for label, tracker in (("AB3DMOT", baseline), ("fovea", ours)):
            found = [(run(folder, name, partial(tracker, threshold=value)), value) for value in THRESHOLDS]
            row, threshold = max(found, key=lambda each: each[0]["MOTA"])
            rows.append(row)
            print(f"{name:<12}{label + f', threshold {threshold:.0f}':<24}", end="")
            print("".join(f"{row[metric]:>8.3f}" for metric in metrics[:-1]) + f"{row['IDSW']:>8.0f}")
        theirs, mine = rows
        if name == "Car":
            passed &= mine["MOTA"] >= theirs["MOTA"] and mine["HOTA"] >= theirs["HOTA"]
    rate = speed()
    print(f"{rate:.0f} frames per second of processor time with 20 objects (at least {LEAST_SPEED})")
    passed &= rate >= LEAST_SPEED
    print("reached" if passed else "NOT reached")
    return 0 if passed else 1


if __name__ == "__main__":
    default = os.environ.get("FOVEA_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else default) / "kitti_tracking"))
