"""From the journals of a sequence to refined boxes: the camera's way through the world, and each track along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import level_rotation, wrap_angle
from pipeline.geometry.outline import Outline
from pipeline.stages.base import StageContext
from pipeline.stages.by_frame import ByFrame
from pipeline.stages.run import journal_path
from pipeline.storage.journal import read_journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, FrameRecord, TrackRecord
from pipeline.storage.sequence import read_boxes, read_camera, read_detections, read_frames
from pipeline.tracking.linking import Piece, link
from pipeline.tracking.refinement import Refined, Sight, Standpoint, refine

Array = NDArray[np.float64]

_KNOWN_SLACK: Final = 0.002**2
_UNKNOWN_SLACK: Final = 0.05**2
"""m²: what may be wrong with the camera's motion from one frame to the next, where it is known and where it is not."""
_TRUNCATED: Final = 0.1
END_PIXELS: Final = 3.0
"""Standard deviation of the ends of a mask."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Of one frame: level takes camera axes to the levelled camera (3, 3), stand takes that to the world."""

    frame: FrameRecord
    level: Array
    stand: Standpoint

    def row(self, box: BoxRecord) -> Array | None:
        """(7,) in the levelled camera."""
        if box.location is None or box.dimensions_hwl is None or box.rotation_y is None:
            return None
        return np.array([*(self.level @ np.array(box.location)), *box.dimensions_hwl, box.rotation_y])

    def in_world(self, row: Array) -> Array:
        """The box (7,) of the levelled camera in the world, y counted from the ground where it is known."""
        cosine, sine = np.cos(self.stand.yaw), np.sin(self.stand.yaw)
        x, y, z = row[:3]
        moved = row.copy()
        moved[0] = cosine * x + sine * z + self.stand.shift[0]
        moved[1] = y - (self.stand.floor or 0.0)
        moved[2] = -sine * x + cosine * z + self.stand.shift[1]
        moved[6] = wrap_angle(row[6] + self.stand.yaw)
        return moved


def read_poses(layout: SequenceLayout) -> Iterator[Pose]:
    """The pose of every kept frame, from the ground and the motion that reconstruction found."""
    facts = read_journal(journal_path(layout, "reconstruction"))
    commit = next(facts, None)
    yaw, shift, before, last = 0.0, np.zeros(2), np.eye(3), -np.inf
    down: Array | None = None
    for frame in read_frames(layout):
        found: Mapping[str, Any] = {}
        boxes = False
        while commit is not None and commit.cursor <= frame.number + 1:
            if commit.cursor == frame.number + 1:
                found, boxes = commit.frame, bool(commit.records)
            commit = next(facts, None)
        ground, motion = found.get("ground"), found.get("motion")
        move = None if motion is None else np.array(motion[3:], np.float64)
        turn = None if motion is None else np.asarray(cv2.Rodrigues(np.array(motion[:3], np.float64))[0])
        if ground is not None:
            down = -np.array(ground[:3], np.float64)
        elif turn is not None and down is not None and not boxes:
            down = turn @ down  # boxes are told along what reconstruction knew; where there are none, memory is better
        else:
            down = None if frame.gravity is None else np.array(frame.gravity, np.float64)
        level = level_rotation(down)
        if turn is not None and move is not None:
            levelled = level @ turn @ before.T
            yaw -= float(np.arctan2(levelled[0, 2] - levelled[2, 0], levelled[0, 0] + levelled[2, 2]))
            cosine, sine = np.cos(yaw), np.sin(yaw)
            x, _, z = level @ move
            shift = shift - np.array([cosine * x + sine * z, -sine * x + cosine * z])
        before = level
        last = max(frame.timestamp_ns * 1e-9, last + 1e-3)
        slack = _UNKNOWN_SLACK if motion is None else _KNOWN_SLACK
        stand = Standpoint(last, yaw, (float(shift[0]), float(shift[1])), slack, None if ground is None else ground[3])
        yield Pose(frame, level, stand)


@dataclass(frozen=True, slots=True)
class _Member:
    """One detection of a track. place: x, z in the world, None where it has no box."""

    record: TrackRecord
    pose: Pose
    sight: Sight
    place: Array | None


def with_hindsight(
    context: StageContext, poses: Sequence[Pose], tracked: Sequence[list[TrackRecord]]
) -> tuple[list[list[TrackRecord]], dict[tuple[int, int], TrackRecord]]:
    """What the whole sequence says of its tracks: pieces of one are linked, and boxes refined over each.

    tracked: the records of each frame. Gives them with the ids that remain, counted from 1 in the order of appearance,
    and those that have a refined box also by frame and instance, with it.
    """
    members, classes = _members(context, poses, tracked)
    if not members:
        return list(tracked), {}
    heads = link([piece for track in members if (piece := _piece(track, classes[track], members[track])) is not None])
    for track_id, head in sorted(heads.items()):
        members[head] += members.pop(track_id)
    numbers: dict[int, int] = {}
    renamed: list[list[TrackRecord]] = []
    for records in tracked:
        renamed.append([])
        for record in records:
            if record.track_id is not None:
                head = heads.get(record.track_id, record.track_id)
                record = replace(record, track_id=numbers.setdefault(head, len(numbers) + 1))
            renamed[-1].append(record)
    camera = read_camera(context.layout)
    sizes = {item.id: item.typical_size_hwl for item in context.classes}
    result = {}
    for track_id, found in members.items():
        found.sort(key=lambda each: each.record.number)
        boxes = refine(
            [each.sight for each in found],
            [each.pose.stand for each in found],
            sizes.get(classes[track_id]),
            END_PIXELS / camera.fx,
        )
        for member, refined in zip(found, boxes, strict=True):
            if refined is not None:
                box, sigma = _in_camera(member.pose, refined)
                key = member.record.number, member.record.instance
                result[key] = replace(member.record, track_id=numbers[track_id], box=box, sigma=sigma)
    return renamed, result


def _members(
    context: StageContext, poses: Sequence[Pose], tracked: Sequence[list[TrackRecord]]
) -> tuple[dict[int, list[_Member]], dict[int, int]]:
    """The detections of each track, and its class: the one with most confidence in all."""
    members: dict[int, list[_Member]] = {}
    votes: dict[int, dict[int, float]] = {}
    boxes, detections = ByFrame(read_boxes(context.layout)), ByFrame(read_detections(context.layout))
    for pose, records in zip(poses, tracked, strict=True):
        places, seen = boxes.of(pose.frame.number), detections.of(pose.frame.number)
        for record in records:
            if record.track_id is not None and record.instance in places:
                members.setdefault(record.track_id, []).append(_member(record, pose, places[record.instance]))
                one, share = seen[record.instance], votes.setdefault(record.track_id, {})
                share[one.class_id] = share.get(one.class_id, 0.0) + one.confidence
    classes = {track: max(share.items(), key=lambda item: (item[1], -item[0]))[0] for track, share in votes.items()}
    return members, classes


def _member(record: TrackRecord, pose: Pose, box: BoxRecord) -> _Member:
    row = pose.row(box)
    outline = None if box.outline is None else Outline.from_json(box.outline)
    whole = box.truncated < _TRUNCATED and box.occluded < 2
    place = None if row is None else pose.in_world(row)[[0, 2]]
    return _Member(record, pose, Sight(pose.frame.number, row, outline, whole), place)


def _piece(track_id: int, class_id: int, members: Sequence[_Member]) -> Piece | None:
    placed = [(each, each.place) for each in members if each.place is not None and each.sight.box is not None]
    if not placed:
        return None
    times = np.array([each.pose.stand.time for each, _ in placed])
    sizes = [np.hypot(*each.sight.box[4:6]) for each, _ in placed if each.sight.box is not None]
    return Piece(track_id, class_id, times, np.array([place for _, place in placed]), float(np.median(sizes)))


def _in_camera(pose: Pose, refined: Refined) -> tuple[list[float], list[float]]:
    box, sigma = refined.box.copy(), refined.sigma.copy()
    box[:3] = pose.level.T @ box[:3]
    sigma[:3] = np.sqrt(np.square(pose.level.T) @ np.square(sigma[:3]))
    box[6] = wrap_angle(float(box[6]))
    return [round(float(value), 4) for value in box], [round(float(value), 4) for value in sigma]
