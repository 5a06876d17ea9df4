"""From the journals of a sequence to refined boxes: the camera's way through the world, and each track along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.boxes3d import level_rotation, wrap_angle
from pipeline.geometry.outline import Outline
from pipeline.stages.run import journal_path
from pipeline.storage.journal import read_journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, FrameRecord
from pipeline.storage.sequence import read_frames
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
    for frame in read_frames(layout):
        found: Mapping[str, Any] = {}
        while commit is not None and commit.cursor <= frame.number + 1:
            found = commit.frame if commit.cursor == frame.number + 1 else {}
            commit = next(facts, None)
        ground, motion = found.get("ground"), found.get("motion")
        down = None if frame.gravity is None else np.array(frame.gravity, np.float64)
        level = level_rotation(down if ground is None else -np.array(ground[:3], np.float64))
        if motion is not None:
            turn, move = cv2.Rodrigues(np.array(motion[:3], np.float64))[0], np.array(motion[3:], np.float64)
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


def refine_track(
    poses: Sequence[Pose], boxes: Sequence[BoxRecord], typical_size_hwl: tuple[float, float, float] | None, focal: float
) -> list[tuple[list[float], list[float]] | None]:
    """Box (7) and sigma (7) of each detection of one track, in camera axes as records hold them; None where there is
    none. poses and boxes go together, in the order of time; focal in pixels."""
    sights = []
    for pose, box in zip(poses, boxes, strict=True):
        outline = None if box.outline is None else Outline.from_json(box.outline)
        whole = box.truncated < _TRUNCATED and box.occluded < 2
        sights.append(Sight(pose.frame.number, pose.row(box), outline, whole))
    results = refine(sights, [pose.stand for pose in poses], typical_size_hwl, END_PIXELS / focal)
    return [None if each is None else _in_camera(pose, each) for pose, each in zip(poses, results, strict=True)]


def _in_camera(pose: Pose, refined: Refined) -> tuple[list[float], list[float]]:
    box, sigma = refined.box.copy(), refined.sigma.copy()
    box[:3] = pose.level.T @ box[:3]
    sigma[:3] = np.sqrt(np.square(pose.level.T) @ np.square(sigma[:3]))
    box[6] = wrap_angle(float(box[6]))
    return [round(float(value), 4) for value in box], [round(float(value), 4) for value in sigma]
