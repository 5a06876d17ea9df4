from itertools import pairwise

import cv2
import numpy as np
import pytest

from pipeline.geometry.boxes3d import level_rotation
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.base import StageContext
from pipeline.stages.run import journal_path
from pipeline.stages.track_refinement import read_poses, with_hindsight
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord

CAMERA = RectifiedCamera(640, 480, 500.0, 500.0, 320.0, 240.0, baseline=0.12, metric=True)
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


def test_without_an_imu_the_ground_is_remembered_where_nothing_was_seen_to_stand_on_it(tmp_path):
    # A camera that looks down drives ahead along the ground: 0.5 m a frame, whether or not the ground was found.
    ahead = level_rotation(PITCH).T @ (0.0, 0.0, -0.5)
    motion = [0.0, 0.0, 0.0, *ahead]
    facts = [{"ground": [*(-PITCH), 1.5]}, {"motion": motion}, {"motion": motion}]
    *_, last = read_poses(sequence(tmp_path, facts))
    assert last.stand.shift == pytest.approx((0.0, 1.0), abs=1e-6)


def test_where_the_motion_is_not_known_the_frame_of_reference_may_have_slipped(tmp_path):
    layout = sequence(tmp_path, [{}, {"motion": [0, 0, 0, 0, 0, -0.1]}, {}])
    slack = [pose.stand.slack for pose in read_poses(layout)]
    assert slack[1] < slack[2] / 100
    assert [pose.stand.floor for pose in read_poses(layout)] == [None] * 3


def seen_again(root, missing: range, count: int = 40) -> tuple[StageContext, list[list[TrackRecord]]]:
    """A sequence of a pitched, still camera before which a crate moves; the tracker gave it another id after a gap."""
    layout = sequence(root, [{"ground": [*(-PITCH), 1.5], "motion": [0.0] * 6}] * count)
    write_json(layout.calibration, CAMERA.to_json())
    tracked: list[list[TrackRecord]] = []
    with (
        Journal(journal_path(layout, "segmentation")) as segmentation,
        Journal(root / "boxes.jsonl") as reconstruction,
    ):
        for number in range(count):
            found = [] if number in missing else [TrackRecord(number, 0, 4 if number < missing.start else 9)]
            tracked.append(found)
            place = level_rotation(PITCH).T @ (0.06 * number, 1.5, 6.0)
            seen = DetectionRecord(number, 0, 1, "crate", 0.9, [0, 0, 9, 9], 81, {"size": [1, 1], "counts": "1"})
            box = BoxRecord(number, 0, list(place), [1.0, 0.8, 1.2], 0.3)
            segmentation.append(Commit(number + 1, [seen.to_json()] if found else []))
            facts = {"ground": [*(-PITCH), 1.5], "motion": [0.0] * 6}
            reconstruction.append(Commit(number + 1, [box.to_json()] if found else [], frame=facts))
    (root / "boxes.jsonl").replace(journal_path(layout, "reconstruction"))
    return StageContext(layout, root, [ClassSpec(1, "crate", typical_size_hwl=(1.0, 0.8, 1.2))]), tracked


def test_a_refined_box_is_told_in_the_axes_of_the_camera(tmp_path):
    context, tracked = seen_again(tmp_path, range(40, 40))
    _, refined = with_hindsight(context, list(read_poses(context.layout)), tracked)
    assert len(refined) == 40
    for (number, _), record in refined.items():
        place = level_rotation(PITCH).T @ (0.06 * number, 1.5, 6.0)
        assert record.box[:6] == pytest.approx([*place, 1.0, 0.8, 1.2], abs=0.05)
        assert all(0 < value < 1 for value in record.sigma)


def test_the_pieces_of_one_track_are_linked_and_refined_as_one(tmp_path):
    context, tracked = seen_again(tmp_path, range(15, 25))
    renamed, refined = with_hindsight(context, list(read_poses(context.layout)), tracked)
    assert [[record.track_id for record in records] for records in renamed] == [
        [] if number in range(15, 25) else [1] for number in range(40)
    ]
    assert {record.track_id for record in refined.values()} == {1}
    assert len({tuple(record.box[3:6]) for record in refined.values()}) == 1


def test_a_gap_too_long_leaves_two_tracks_numbered_as_they_appear(tmp_path):
    context, tracked = seen_again(tmp_path, range(10, 35))
    renamed, refined = with_hindsight(context, list(read_poses(context.layout)), tracked)
    assert {record.track_id for records in renamed for record in records} == {1, 2}
    assert refined[0, 0].track_id == 1
    assert refined[39, 0].track_id == 2
