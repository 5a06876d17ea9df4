"""How well labels made of the simulated recording agree with what was really there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.geometry.boxes3d import iou_3d, level_rotation

MATCH_IOU: Final = 0.25
"""3D overlap from which a box counts as found: the looser of the two thresholds usual for indoor scenes."""
MIN_VISIBLE_PIXELS: Final = 300
"""Objects of which less is seen are neither demanded nor held against anyone."""


@dataclass(frozen=True, slots=True)
class PredictedBox:
    """One labelled object: box as `pipeline.geometry.boxes3d` has it (7,), class name, track id or None; sigma: the
    standard deviations of the box's seven numbers, if they are known."""

    box: Sequence[float]
    class_name: str
    track_id: int | None = None
    sigma: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A prediction and the object it was matched with. index: of the recording's frame. box, truth: (7,), levelled."""

    index: int
    object_id: int
    class_name: str
    iou: float
    box: NDArray[np.float64]
    truth: NDArray[np.float64]
    sigma: Sequence[float] | None

    @property
    def error(self) -> NDArray[np.float64]:
        """(7,) box minus truth, the angle modulo half a turn: a box looks the same from behind."""
        error = self.box - self.truth
        error[6] = (error[6] + np.pi / 2) % np.pi - np.pi / 2
        return error


@dataclass(frozen=True, slots=True)
class Score:
    """frames, objects (demanded), predictions; of the matched: mean 3D IoU, mean distance of the centres (metres),
    share with the right class; recall and precision; identity switches, and tracks per real object (1 is ideal)."""

    frames: int
    objects: int
    predictions: int
    matched: int
    mean_iou_3d: float
    mean_centre_error: float
    recall: float
    precision: float
    class_accuracy: float
    identity_switches: int
    tracks_per_object: float


def score(
    predicted: Mapping[int, Sequence[PredictedBox]],
    ground_truth: Mapping[str, Any],
    *,
    match_iou: float = MATCH_IOU,
    min_visible_pixels: int = MIN_VISIBLE_PIXELS,
) -> Score:
    """Match boxes to objects frame by frame (Hungarian, on 3D IoU whatever the class) and sum up.

    predicted: by index of the recording's frame; frames without an entry are not judged, frames with an empty one are.
    ground_truth: the content of `ground_truth.json`. Boxes that match a hardly visible object are left out.
    """
    frames = {int(entry["index"]): entry for entry in ground_truth["frames"]}
    ious: list[float] = []
    errors: list[float] = []
    right = switches = demanded = made = 0
    last: dict[int, int] = {}
    tracks: dict[int, set[int]] = {}
    for index in sorted(predicted):
        if index not in frames:
            continue
        entry = frames[index]
        boxes, objects = predicted[index], entry["objects"]
        level = level_rotation(np.array(entry["gravity"]))
        overlap, distance = _compared([each.box for each in boxes], [each["box"] for each in objects], level)
        pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-overlap), strict=True) if overlap[i, j] >= match_iou]
        ignored = {j for j, each in enumerate(objects) if each["visible_pixels"] < min_visible_pixels}
        demanded += len(objects) - len(ignored)
        made += len(boxes) - sum(j in ignored for _, j in pairs)
        for i, j in pairs:
            if j in ignored:
                continue
            ious.append(float(overlap[i, j]))
            errors.append(float(distance[i, j]))
            right += boxes[i].class_name == objects[j]["class_name"]
            number, track = int(objects[j]["object_id"]), boxes[i].track_id
            if track is not None:
                switches += last.get(number, track) != track
                last[number] = track
                tracks.setdefault(number, set()).add(track)
    matched = len(ious)
    return Score(
        frames=sum(index in frames for index in predicted),
        objects=demanded,
        predictions=made,
        matched=matched,
        mean_iou_3d=float(np.mean(ious)) if ious else 0.0,
        mean_centre_error=float(np.mean(errors)) if errors else 0.0,
        recall=matched / demanded if demanded else 0.0,
        precision=matched / made if made else 0.0,
        class_accuracy=right / matched if matched else 0.0,
        identity_switches=switches,
        tracks_per_object=float(np.mean([len(each) for each in tracks.values()])) if tracks else 0.0,
    )


def matches(
    predicted: Mapping[int, Sequence[PredictedBox]],
    ground_truth: Mapping[str, Any],
    *,
    match_iou: float = MATCH_IOU,
    min_visible_pixels: int = MIN_VISIBLE_PIXELS,
) -> Iterator[Match]:
    """The pairs that `score` counts, with what is wrong with each."""
    frames = {int(entry["index"]): entry for entry in ground_truth["frames"]}
    for index in sorted(set(predicted) & set(frames)):
        entry = frames[index]
        boxes, objects = predicted[index], entry["objects"]
        level = level_rotation(np.array(entry["gravity"]))
        made, true = _levelled([each.box for each in boxes], level), _levelled([each["box"] for each in objects], level)
        overlap = iou_3d(made, true)
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            each = objects[j]
            if overlap[i, j] >= match_iou and each["visible_pixels"] >= min_visible_pixels:
                number, name = int(each["object_id"]), each["class_name"]
                yield Match(index, number, name, float(overlap[i, j]), made[i], true[j], boxes[i].sigma)


def _levelled(rows: Sequence[Sequence[float]], level: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 7) with the locations in the levelled camera."""
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 7)
    boxes[:, :3] = boxes[:, :3] @ level.T
    return boxes


def _compared(
    boxes: Sequence[Sequence[float]], truths: Sequence[Sequence[float]], level: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, M) 3D IoU and distance of the centres, metres, with all locations levelled."""
    a, b = _levelled(boxes, level), _levelled(truths, level)
    middle = np.array([0.0, 0.5, 0.0])
    centre_a, centre_b = (rows[:, :3] - middle * rows[:, 3:4] for rows in (a, b))
    return iou_3d(a, b), np.linalg.norm(centre_a[:, None] - centre_b[None], axis=2)
