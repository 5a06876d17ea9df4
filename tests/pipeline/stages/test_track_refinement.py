from itertools import pairwise

import cv2
import numpy as np
import pytest

from pipeline.geometry.boxes3d import level_rotation
from pipeline.stages.run import journal_path
from pipeline.stages.track_refinement import read_poses, refine_track
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, FrameRecord

PITCH = np.array([0.0, np.cos(0.2), np.sin(0.2)])
"""Down, of a camera that looks at the ground a little."""


def sequence(root, facts: list[dict]) -> SequenceLayout:
    layout = SequenceLayout(root)
    with (
        Journal(journal_path(layout, "extraction")) as extraction,
        Journal(journal_path(layout, "reconstruction")) as reconstruction,
    ):
        for number, fact in enumerate(facts):
            frame = FrameRecord(number, number, number * 100_000_000, 640, 480, "0" * 16, 0.0)
            extraction.append(Commit(number + 1, [frame.to_json()]))
            reconstruction.append(Commit(number + 1, frame=fact))
    return layout


def seen_by(rotation: np.ndarray, centre: np.ndarray, point: np.ndarray) -> np.ndarray:
    """A point of the world in a camera with these axes (columns) and centre."""
    return (point - centre) @ rotation


def test_a_parked_thing_stays_where_it_is_in_the_world_while_the_camera_walks_and_looks_around(tmp_path):
    ground = [*(-PITCH), 1.5]
    pitched = level_rotation(PITCH).T  # levelled to camera axes
    poses = []
    for number in range(6):
        turn = cv2.Rodrigues(np.array([0.0, 0.08 * number, 0.0]))[0]
        poses.append((turn @ pitched.T, np.array([0.1 * number, 0.0, 0.4 * number])))
    facts = [{"ground": ground}]
    for (axes, centre), (next_axes, next_centre) in pairwise(poses):
        relative = next_axes.T @ axes
        shift = next_axes.T @ (centre - next_centre)
        facts.append({"ground": ground, "motion": [*cv2.Rodrigues(relative)[0].ravel(), *shift]})
    point = np.array([1.0, 1.5, 7.0])
    rows = []
    for pose, (axes, centre) in zip(read_poses(sequence(tmp_path, facts)), poses, strict=True):
        box = BoxRecord(0, 0, list(seen_by(axes, centre, point)), [1.0, 1.0, 1.0], 0.0)
        row = pose.row(box)
        assert row is not None
        rows.append(pose.in_world(row))
    places = np.array(rows)[:, :3]
    assert places == pytest.approx(np.tile(places[0], (6, 1)), abs=1e-6)
    assert places[0] == pytest.approx((1.0, 0.0, 7.0), abs=1e-6)


def test_where_the_motion_is_not_known_the_frame_of_reference_may_have_slipped(tmp_path):
    layout = sequence(tmp_path, [{}, {"motion": [0, 0, 0, 0, 0, -0.1]}, {}])
    slack = [pose.stand.slack for pose in read_poses(layout)]
    assert slack[1] < slack[2] / 100
    assert [pose.stand.floor for pose in read_poses(layout)] == [None] * 3


def test_a_refined_box_is_told_in_the_axes_of_the_camera(tmp_path):
    layout = sequence(tmp_path, [{"ground": [*(-PITCH), 1.5]}] * 8)
    poses = list(read_poses(layout))
    place = level_rotation(PITCH).T @ (0.5, 1.5, 6.0)
    boxes = [BoxRecord(number, 0, list(place), [1.0, 0.8, 1.2], 0.3, occluded=0) for number in range(8)]
    found = refine_track(poses, boxes, (1.0, 0.8, 1.2), 500.0)
    for box, sigma in found:
        assert box == pytest.approx([*place, 1.0, 0.8, 1.2, 0.3], abs=0.02)
        assert all(0 < value < 1 for value in sigma)
