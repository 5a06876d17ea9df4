import json
import math

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.geometry.box_fit import fit_box
from pipeline.geometry.boxes3d import iou_3d, level_rotation
from pipeline.geometry.kitti import read_labels
from pipeline.geometry.own_pixels import cut_sides
from pipeline.geometry.plane import fit_ground_plane
from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.rle import bbox_xywh
from pipeline.stages.base import StageContext
from pipeline.stages.reconstruction import Reconstruction
from pipeline.stages.run import journal_path, run_stage
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_bytes, write_json, write_npy
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import DetectionRecord, FrameRecord
from pipeline.storage.sequence import read_boxes
from tests.pipeline.geometry.test_ego_motion import wall

CAMERA = RectifiedCamera(320, 240, 260.0, 260.0, 160.0, 120.0, baseline=0.12, metric=True)
CRATE = ClassSpec(1, "wooden crate", typical_size_hwl=(1.0, 1.2, 1.2))
TRUTH = np.array([0.4, 1.5, 6.0, 1.0, 1.2, 1.2, 0.35])
TILTED = np.array([0.0, math.cos(0.3), math.sin(0.3)])


def ray_cast(box: np.ndarray, down: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) of a crate on endless ground 1.5 m below the camera, and the crate's mask; exact.

    The box is told in the levelled camera.
    """
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], axis=-1)
    rays = rays @ level_rotation(down).T
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(rays[..., 1] > 0.02, 1.5 / rays[..., 1], np.inf)
        x, y, z, h, w, l, ry = box  # noqa: E741
        turn = np.array([[np.cos(ry), 0, -np.sin(ry)], [0, 1, 0], [np.sin(ry), 0, np.cos(ry)]])
        half = np.array([l, h, w]) / 2
        origin, direction = turn @ -np.array([x, y - h / 2, z]), rays @ turn.T
        first, second = (-half - origin) / direction, (half - origin) / direction
        near = np.minimum(first, second).max(axis=-1)
        far = np.maximum(first, second).min(axis=-1)
    hit = (near < far) & (near > 0)
    scale = np.where(hit, near, ground)
    depth = np.where(np.isfinite(scale) & (scale < 40), scale, np.nan).astype(np.float32)
    return depth, hit


def detection(number: int, instance: int, mask: np.ndarray) -> DetectionRecord:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
    return DetectionRecord(number, instance, CRATE.id, CRATE.name, 0.8, bbox_xywh(mask), int(mask.sum()), rle)


def sequence(root, frames, *, camera: RectifiedCamera = CAMERA, down: np.ndarray | None = None) -> StageContext:
    """A sequence as extraction and segmentation leave it; frames: (depth or None, masks)."""
    layout = SequenceLayout(root)
    write_json(layout.calibration, camera.to_json())
    with (
        Journal(journal_path(layout, "extraction")) as extraction,
        Journal(journal_path(layout, "segmentation")) as segmentation,
    ):
        for number, (depth, masks) in enumerate(frames):
            if depth is not None:
                write_npy(layout.depth(number), depth)
            gravity = None if down is None else [float(value) for value in down]
            record = FrameRecord(
                number, number, number, 320, 240, "0" * 16, 0.0, has_depth=depth is not None, gravity=gravity
            )
            extraction.append(Commit(number + 1, [record.to_json()]))
            records = [detection(number, instance, mask).to_json() for instance, mask in enumerate(masks)]
            segmentation.append(Commit(number + 1, records))
    return StageContext(layout, root / "recording.svo2", classes=[CRATE])


def run(context: StageContext) -> list:
    return [commit for commit, _ in run_stage(Reconstruction(), context)]


@pytest.mark.parametrize("down", [None, np.array([0.0, 1.0, 0.0]), TILTED])
def test_a_crate_gets_its_box_also_from_a_tilted_camera(tmp_path, down):
    depth, mask = ray_cast(TRUTH, down)
    context = sequence(tmp_path, [(depth, [mask])], down=down)
    run(context)
    (box,) = read_boxes(context.layout)
    level = level_rotation(down)
    row = np.array([*(level @ box.location), *box.dimensions_hwl, box.rotation_y])
    assert iou_3d(row, TRUTH)[0, 0] > 0.75
    assert (box.reason, box.occluded, box.truncated) == ("", 0, 0.0)
    assert box.points_used > 500


def test_the_label_file_tells_what_the_record_tells(tmp_path):
    depth, mask = ray_cast(TRUTH)
    context = sequence(tmp_path, [(depth, [mask]), (depth, [])])
    run(context)
    (box,) = read_boxes(context.layout)
    (label,) = read_labels(context.layout.label(0))
    assert label.type == "wooden_crate"
    assert label.location == pytest.approx(box.location, abs=0.006)
    assert label.dimensions_hwl == pytest.approx(box.dimensions_hwl, abs=0.006)
    assert (label.rotation_y, label.alpha) == pytest.approx((box.rotation_y, box.alpha), abs=0.006)
    assert label.alpha == pytest.approx(label.rotation_y - math.atan2(label.location[0], label.location[2]), abs=0.02)
    assert label.score == 0.8
    assert context.layout.label(1).read_text() == ""


def test_a_detection_without_trustworthy_depth_gets_no_box_and_a_reason(tmp_path):
    depth, mask = ray_cast(TRUTH)
    holes = np.where(mask, np.nan, depth).astype(np.float32)
    context = sequence(tmp_path, [(holes, [mask]), (None, [mask])])
    run(context)
    first, second = read_boxes(context.layout)
    assert first.location is None
    assert "Too few" in first.reason
    assert second.reason == "The frame has no depth."
    (label,) = read_labels(context.layout.label(1))
    assert (label.occluded, label.alpha, label.rotation_y) == (3, -10, -10)
    assert label.location == (-1000, -1000, -1000)
    assert label.dimensions_hwl == (-1, -1, -1)


def test_an_uncalibrated_camera_never_yields_boxes(tmp_path):
    depth, mask = ray_cast(TRUTH)
    guess = RectifiedCamera(320, 240, 260.0, 260.0, 160.0, 120.0, baseline=None, metric=False)
    context = sequence(tmp_path, [(depth, [mask])], camera=guess)
    run(context)
    (box,) = read_boxes(context.layout)
    assert box.location is None
    assert "not calibrated" in box.reason


def test_what_the_image_cuts_off_and_what_stands_in_front_is_told(tmp_path):
    at_the_border = np.array([-3.4, 1.5, 5.5, 1.0, 1.2, 1.2, 0.0])
    depth, mask = ray_cast(at_the_border)
    assert mask[:, 0].any()
    hidden_depth, whole = ray_cast(TRUTH)
    post = np.zeros_like(whole)
    post[:, 170:184] = True
    hidden_depth[post] = 3.0
    context = sequence(tmp_path, [(depth, [mask]), (hidden_depth, [whole & ~post])])
    run(context)
    cut, behind = read_boxes(context.layout)
    assert 0.1 < cut.truncated < 0.7
    assert behind.truncated == 0
    assert behind.occluded == 1


def test_a_damaged_depth_file_is_told_and_the_rest_goes_on(tmp_path):
    depth, mask = ray_cast(TRUTH)
    context = sequence(tmp_path, [(depth, [mask]), (depth, [mask])])
    context.layout.depth(0).write_bytes(b"\x93NUMPY")
    commits = run(context)
    assert "000000.npy cannot be read" in commits[0].error
    assert [box.location is None for box in read_boxes(context.layout)] == [True, False]


def test_a_resumed_run_leaves_the_same_bytes(tmp_path):
    depth, mask = ray_cast(TRUTH)
    frames = [(depth, [mask]), (depth, []), (depth, [mask, mask]), (depth, [mask])]
    results = []
    for cut in (None, 1, 2, 3):
        context = sequence(tmp_path / str(cut), frames)
        if cut is not None:
            steps = run_stage(Reconstruction(), context)
            for _ in range(cut):
                next(steps)
            steps.close()
        run(context)
        labels = {path.name: path.read_bytes() for path in (context.layout.root / "label_2").iterdir()}
        results.append(json.dumps([box.to_json() for box in read_boxes(context.layout)]) + repr(sorted(labels.items())))
    assert len(set(results)) == 1


def test_an_object_is_hidden_where_something_nearer_or_the_border_ends_it():
    mask = np.zeros((60, 100), bool)
    mask[20:50, 40:60] = True
    depth = np.full((60, 100), 20.0, np.float32)
    depth[mask] = 6.0
    assert cut_sides(mask, depth) == (False, False)
    depth[:, 62:66], depth[:, 66:80] = np.nan, 3.0  # right beside what is near the matcher has no answer
    assert cut_sides(mask, depth) == (False, True)
    depth[:, 30:40] = 3.0
    assert cut_sides(mask, depth) == (True, True)
    assert cut_sides(np.roll(mask, -40, axis=1), np.full((60, 100), 6.0, np.float32)) == (True, False)


FAILURES = [np.linalg.LinAlgError("Singular matrix"), cv2.error("bad size"), FloatingPointError("underflow")]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_fit_that_fails_costs_one_detection_its_box(tmp_path, monkeypatch, failure):
    depth, mask = ray_cast(TRUTH)
    failures = [failure]

    def fit(*arguments):
        if failures:
            raise failures.pop()
        return fit_box(*arguments)

    monkeypatch.setattr("pipeline.stages.reconstruction.fit_box", fit)
    context = sequence(tmp_path, [(depth, [mask, mask])])
    (commit,) = run(context)
    failed, fitted = read_boxes(context.layout)
    assert commit.error == fitted.reason == ""
    assert failed.location is None
    assert failed.reason == f"The box could not be fitted: {failure}."
    assert fitted.location is not None
    assert [label.location[2] for label in read_labels(context.layout.label(0))] == pytest.approx(
        [-1000, fitted.location[2]], abs=0.006
    )


@pytest.mark.parametrize("failure", FAILURES)
def test_a_ground_fit_that_fails_is_that_frames_error(tmp_path, monkeypatch, failure):
    depth, mask = ray_cast(TRUTH)
    near = np.where(depth < 20, depth, np.nan).astype(np.float32)

    def fit(points, *arguments, **options):
        if points[:, 2].max() < 20:
            raise failure
        return fit_ground_plane(points, *arguments, **options)

    monkeypatch.setattr("pipeline.stages.reconstruction.fit_ground_plane", fit)
    context = sequence(tmp_path, [(depth, [mask]), (near, [mask]), (depth, [mask])])
    assert [commit.error for commit in run(context)] == [
        "",
        f"Frame 1: the ground could not be fitted: {failure}.",
        "",
    ]
    assert [box.reason for box in read_boxes(context.layout)] == ["", "", ""]


def test_the_ground_and_the_motion_of_the_camera_are_noted_with_the_frame(tmp_path):
    depth, mask = ray_cast(TRUTH)
    context = sequence(tmp_path, [(depth, [mask])])
    (commit,) = run(context)
    assert commit.frame["ground"] == pytest.approx([0, -1, 0, 1.5], abs=0.01)
    assert "motion" not in commit.frame  # there is no frame before, and no image


@pytest.mark.parametrize("done", [0, 1, 2])
def test_the_motion_since_the_frame_before_is_noted_also_after_a_resumption(tmp_path, done):
    ahead = np.array([0.02, 0.0, -0.1])
    pictures = [wall(np.eye(3), number * ahead) for number in range(3)]
    context = sequence(tmp_path, [(depth, []) for _, depth in pictures])
    for number, (picture, _) in enumerate(pictures):
        write_bytes(context.layout.image_left(number), cv2.imencode(".png", picture)[1].tobytes())
    commits = list(Reconstruction().run(context, done, {}))
    assert [commit.cursor for commit in commits] == [1, 2, 3][done:]
    for commit in commits[0 if done else 1 :]:
        assert commit.frame["motion"] == pytest.approx([0, 0, 0, *ahead], abs=0.01)
