from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.classification import features
from pipeline.classification.descriptor import DIMENSION
from pipeline.classification.features import (
    BOTH,
    DESCRIPTOR,
    MOBILENET,
    best_kind,
    extractor,
    instance_features,
    segmenter_kind,
    sequence_features,
)
from pipeline.errors import ClassHeadError
from pipeline.segmentation import rle
from pipeline.segmentation.base import View
from pipeline.simulation.render import Eye, Stage
from pipeline.simulation.scene import street_corner
from pipeline.stages.run import journal_path
from pipeline.stereo.calibration import CameraIntrinsics
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json, write_npy
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import DetectionRecord, FrameRecord

EYE = CameraIntrinsics(672, 376, 340.0, 340.0, 335.5, 187.5)


@pytest.fixture(scope="module")
def moment():
    """The street with exact depth: the view, its instances' masks by name of the class, largest first."""
    scene = street_corner()
    axes, centre = scene.rig_pose(1.6)
    picture = Stage(scene, 1.6).picture(Eye.of(EYE), axes, centre, smooth=False)
    depth = np.where(picture.depth < 30, picture.depth, np.nan).astype(np.float32)
    view = View(picture.image, depth, EYE.matrix, axes.T @ np.array([0.0, 1.0, 0.0]))
    masks = {}
    for actor in scene.actors:
        mask = picture.instances == actor.id
        if np.count_nonzero(mask) > np.count_nonzero(masks.get(actor.class_name, 299)):
            masks[actor.class_name] = mask
    return view, masks


@pytest.fixture(scope="module", params=[DESCRIPTOR, MOBILENET, BOTH])
def kind(request):
    return request.param


@pytest.fixture
def folders(kind, request):
    if kind == DESCRIPTOR:
        return ()
    pytest.importorskip("ai_edge_litert", reason="the package that runs the small encoder is not installed")
    folder = request.getfixturevalue("models_folder")
    if features.why_not(kind, (folder,)):
        pytest.skip(features.why_not(kind, (folder,)))
    return (folder,)


def test_features_are_finite_numbers_and_the_same_every_time(kind, folders, moment):
    view, masks = moment
    worker = extractor(kind, folders)
    several = worker.of(view, list(masks.values()))
    assert several.shape == (len(masks), worker.dimension)
    assert several.dtype == np.float32
    assert np.isfinite(several).all()
    for row, mask in zip(several, masks.values(), strict=True):
        assert np.array_equal(row, instance_features(view, mask, kind, folders))


def test_features_do_not_see_what_is_beside_the_mask(kind, folders, moment):
    view, masks = moment
    mask = masks["car"]
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    image = np.where(near[..., None], view.image, np.uint8(37))
    other = replace(view, image=image)
    assert np.array_equal(instance_features(other, mask, kind, folders), instance_features(view, mask, kind, folders))


def test_an_empty_mask_has_no_features(kind, folders, moment):
    view, _ = moment
    assert np.isnan(instance_features(view, np.zeros(view.image.shape[:2], bool), kind, folders)).all()


@pytest.mark.parametrize("side", [1, 2, 5])
def test_the_smallest_masks_have_features(kind, folders, moment, side):
    view, _ = moment
    mask = np.zeros(view.image.shape[:2], bool)
    mask[100 : 100 + side, 50 : 50 + side] = True
    assert np.isfinite(instance_features(view, mask, kind, folders)).all()


def test_a_view_without_depth_camera_or_gravity_has_features(kind, folders, moment):
    view, masks = moment
    mask = masks["person"]
    for bare in (View(view.image), View(view.image, view.depth), View(view.image, view.depth, view.camera_matrix)):
        assert np.isfinite(instance_features(bare, mask, kind, folders)).all()


def test_sizes_in_metres_are_part_of_the_descriptor(moment):
    """The last block: known, log of height, width, depth (and more)."""
    view, masks = moment
    metric = instance_features(view, masks["person"], DESCRIPTOR)[DIMENSION - 12 :]
    assert metric[0] > 0
    assert np.exp(metric[1]) == pytest.approx(1.75, abs=0.25)
    assert np.exp(metric[6]) == pytest.approx(1.75, abs=0.25)  # its top above the ground
    assert metric[7] == pytest.approx(0, abs=0.25)
    without = instance_features(View(view.image), masks["person"], DESCRIPTOR)[DIMENSION - 12 :]
    assert not without[:8].any()


def test_the_descriptor_of_a_mirrored_thing_has_the_same_size_and_colours(moment):
    view, masks = moment
    matrix = view.camera_matrix.copy()
    matrix[0, 2] = view.image.shape[1] - 1 - matrix[0, 2]
    turned = View(
        np.ascontiguousarray(view.image[:, ::-1]),
        np.ascontiguousarray(view.depth[:, ::-1]),
        matrix,
        view.gravity * (-1, 1, 1),
    )
    here = instance_features(view, masks["crate"], DESCRIPTOR)
    there = instance_features(turned, np.ascontiguousarray(masks["crate"][:, ::-1]), DESCRIPTOR)
    assert there[:44] == pytest.approx(here[:44], abs=0.02)
    assert there[-12:-4] == pytest.approx(here[-12:-4], abs=0.05)


def test_the_best_kind_is_what_the_folders_allow(tmp_path, models_folder):
    assert best_kind(()) == DESCRIPTOR
    (tmp_path / "mobilenet_v2_1.0_224_quant.tflite").write_bytes(b"cut off")
    assert best_kind((tmp_path,)) == DESCRIPTOR
    if not features.why_not(BOTH, (models_folder,)):
        assert best_kind((models_folder,)) == BOTH


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (MOBILENET, "mobilenet_v2_1.0_224_quant.tflite is in none of the folders of FOVEA_MODELS_DIR"),
        ("mobilenet-v9/1", "not known to this version"),
        (segmenter_kind("sam2"), "come with the segmenter"),
    ],
)
def test_features_that_cannot_be_had_say_what_is_missing(tmp_path, asked, said):
    with pytest.raises(ClassHeadError, match=said):
        extractor(asked, (tmp_path,))


@pytest.fixture
def sequence(tmp_path, moment):
    """Three frames of the street; the image of the second is damaged."""
    view, masks = moment
    layout = SequenceLayout(tmp_path)
    write_json(
        layout.calibration,
        RectifiedCamera(EYE.width, EYE.height, EYE.fx, EYE.fy, EYE.cx, EYE.cy, 0.12, metric=True).to_json(),
    )
    layout.image_left(0).parent.mkdir(parents=True)
    with Journal(journal_path(layout, "extraction")) as journal:
        for number in range(3):
            cv2.imwrite(str(layout.image_left(number)), view.image)
            write_npy(layout.depth(number), view.depth)
            gravity = view.gravity.tolist()
            frame = FrameRecord(
                number, number, number, EYE.width, EYE.height, "0" * 16, 0.0, has_depth=True, gravity=gravity
            )
            journal.append(Commit(number + 1, [frame.to_json()]))
    layout.image_left(1).write_bytes(b"\x89PNG cut off")
    return layout, view, masks


def detection(number, instance, mask):
    return DetectionRecord(number, instance, 1, "person", 0.9, rle.bbox_xywh(mask), int(mask.sum()), rle.encode(mask))


def test_features_of_labelled_detections_come_from_the_files_of_a_job(sequence):
    layout, view, masks = sequence
    car, person = masks["car"], masks["person"]
    small = np.ones((4, 4), bool)
    records = [
        detection(2, 0, car),
        detection(0, 0, person),
        detection(2, 1, person),
        detection(1, 0, car),  # the image is damaged
        detection(7, 0, car),  # there is no such frame
        detection(0, 1, small),  # a mask of another image
        replace(detection(0, 2, car), rle={"size": [376, 672], "counts": "not a mask"}),
    ]
    found = sequence_features(layout, records, DESCRIPTOR)
    expected = [instance_features(view, mask, DESCRIPTOR) for mask in (car, person, person)]
    assert np.array_equal(found[:3], np.stack(expected))
    assert np.isnan(found[3:]).all()
    assert sequence_features(layout, [], DESCRIPTOR).shape == (0, DIMENSION)


def test_the_segmenters_own_features_come_from_where_it_left_them(sequence):
    layout, _, masks = sequence
    kind, car = segmenter_kind("sam2"), masks["car"]
    stored = np.arange(8, dtype=np.float16).reshape(2, 4)
    write_npy(layout.features(0, kind), stored)
    write_npy(layout.features(2, kind), stored.astype(np.float64))  # not what is stored there
    records = [detection(0, 1, car), detection(0, 0, car), detection(0, 2, car), detection(2, 0, car)]
    found = sequence_features(layout, records, kind)
    assert found[:2].tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert np.isnan(found[2:]).all()
    with pytest.raises(ClassHeadError, match="segmenter:sam3/1"):
        sequence_features(layout, records, segmenter_kind("sam3"))
