from itertools import pairwise

import cv2
import numpy as np
import pytest

from pipeline.geometry.kitti import read_labels
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, View
from pipeline.segmentation.deeplab import tiles
from pipeline.segmentation.rle import bbox_xywh
from pipeline.segmentation.vocabulary import VOC

pytest.importorskip("ai_edge_litert", reason="the runtime of the tflite file is not installed")

CLASSES = [
    ClassSpec(i, name) for i, name in enumerate(["pedestrian", "car", "dog", "potted plant", "cyclist"], start=1)
]


@pytest.fixture(scope="module")
def deeplab(models_folder):
    return registry.load("deeplab", CLASSES, [models_folder])


@pytest.fixture(scope="module")
def truck(data_folder):
    return cv2.imread(str(data_folder / "video_sam2" / "truck.jpg"))


def found(deeplab, image, **view):
    return deeplab.segment([View(image, **view)])[0]


def polygons(path, shape):
    """Masks by COCO class index of a YOLO polygon file."""
    masks = {}
    for line in path.read_text().splitlines():
        index, *numbers = line.split()
        points = (np.array(numbers, float).reshape(-1, 2) * shape[1::-1]).astype(np.int32)
        mask = masks.setdefault(int(index), np.zeros(shape[:2], np.uint8))
        cv2.fillPoly(mask, [points], 1)
    return masks


def test_a_truck_is_a_car_with_a_clean_outline(deeplab, truck):
    best = found(deeplab, truck)[0]
    assert best.class_id == 2
    assert best.confidence > 0.4
    assert best.mask[500:800, 500:1200].mean() > 0.8
    assert not best.mask[:150].any()


def test_masks_overlap_the_polygons_of_coco(deeplab, data_folder):
    images = sorted((data_folder / "coco8" / "coco8-seg").rglob("*.jpg"))
    coco_to_mine = {0: 1, 2: 2, 16: 3, 58: 4}
    overlaps = []
    for path in images:
        image = cv2.imread(str(path))
        labels = next((data_folder / "coco8" / "coco8-seg").rglob(f"{path.stem}.txt"))
        instances = found(deeplab, image)
        for coco_class, truth in polygons(labels, image.shape).items():
            mine = [each.mask for each in instances if each.class_id == coco_to_mine.get(coco_class)]
            if mine and truth.mean() > 0.05:
                union = np.any(mine, axis=0)
                overlaps.append(np.count_nonzero(union & (truth > 0)) / np.count_nonzero(union | (truth > 0)))
    assert len(overlaps) >= 2
    assert np.mean(overlaps) > 0.6


def test_probabilities_do_not_move_when_the_image_is_padded(deeplab, truck):
    image = cv2.resize(truck, (450, 300))
    probability = deeplab.probabilities(image)
    assert probability.shape == (len(VOC), 300, 450)
    assert np.allclose(probability.sum(axis=0), 1, atol=1e-4)
    # Tall and wide images are letterboxed, not stretched: the outline stays where it is.
    padded = cv2.copyMakeBorder(image, 0, 150, 0, 0, cv2.BORDER_CONSTANT, value=(128, 128, 128))
    other = deeplab.probabilities(padded)[:, :300]
    car = VOC.index("car")
    assert np.abs(other[car] - probability[car]).mean() < 0.1


def test_mono_and_any_shape_will_do(deeplab):
    for shape in ((1, 1), (3, 700), (600, 5), (376, 1241)):
        assert found(deeplab, np.full((*shape, 3), 90, np.uint8)) == []


def test_two_of_a_class_behind_one_another_are_told_apart_by_depth(deeplab, truck):
    matrix = np.diag([1500.0, 1500.0, 1.0])
    matrix[:2, 2] = 900, 600
    depth = np.full(truck.shape[:2], 9.0, np.float32)
    whole = found(deeplab, truck, depth=depth, camera_matrix=matrix)
    depth[:, 900:] = 4.0
    halves = found(deeplab, truck, depth=depth, camera_matrix=matrix)
    assert sum(each.class_id == 2 for each in halves) == sum(each.class_id == 2 for each in whole) + 1


def test_touching_cars_are_told_apart_by_their_outlines(deeplab, data_folder):
    image = cv2.imread(str(data_folder / "kitti_object" / "image_2" / "000217.png"))
    labels = read_labels(data_folder / "kitti_object" / "label_2" / "000217.txt")
    near = sorted((each for each in labels if each.type == "Car"), key=lambda each: each.location[2])[:2]
    boxes = [bbox_xywh(each.mask) for each in found(deeplab, image) if each.class_id == 2]
    assert [max(box_iou(box, each.bbox_xyxy) for box in boxes) > 0.6 for each in near] == [True, True]


def test_masks_are_those_of_their_logits_and_no_pixel_has_two_owners(deeplab, truck):
    instances = found(deeplab, truck)
    for each in instances:
        assert each.logits.dtype == np.float16
        assert each.logits.shape == truck.shape[:2]
        assert np.array_equal(each.mask, each.logits > 0)
        assert 0 < each.stability <= 1
    assert np.max(np.sum([each.mask for each in instances], axis=0)) == 1
    assert instances[0].quality > 0.8


def test_features_tell_a_truck_from_a_girl_better_than_from_its_mirror_image(deeplab, truck, data_folder):
    person = next((data_folder / "coco8" / "coco8-seg").rglob("000000000036.jpg"))
    car = found(deeplab, truck)[0].features
    mirrored = found(deeplab, np.ascontiguousarray(truck[:, ::-1]))[0].features
    girl = found(deeplab, cv2.imread(str(person)))[0].features
    assert car.shape == (256,)
    assert car.dtype == np.float32

    def alike(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert alike(car, mirrored) > 0.9 > alike(car, girl) + 0.2


def test_a_black_image_and_a_grey_one_will_do(deeplab, truck):
    assert found(deeplab, np.zeros((376, 672, 3), np.uint8)) == []
    grey = cv2.cvtColor(cv2.cvtColor(truck, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert found(deeplab, grey)[0].class_id == 2


def test_depth_completes_the_outlines_of_people(deeplab, street):
    people = [street.instances == number for number, name in street.names.items() if name == "person"]

    def overlaps(view):
        masks = [each.mask for each in deeplab.segment([view])[0] if each.class_id == 1]
        return max(np.count_nonzero(a & b) / np.count_nonzero(a | b) for a in people for b in masks)

    assert overlaps(street.view) > overlaps(View(street.view.image)) + 0.05


def test_the_same_image_gives_the_same_result_in_any_batch(deeplab, truck):
    small = cv2.resize(truck, (600, 400))
    alone = found(deeplab, small)
    together = deeplab.segment([View(np.zeros_like(small)), View(small)])[1]
    assert [(a.class_id, a.confidence) for a in alone] == [(b.class_id, b.confidence) for b in together]
    assert all(a.logits.tobytes() == b.logits.tobytes() for a, b in zip(alone, together, strict=True))
    assert all(a.features.tobytes() == b.features.tobytes() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("long", "short", "count"),
    [(672, 376, 1), (1280, 720, 1), (1242, 375, 3), (1224, 370, 3), (700, 3, 6), (2, 1, 2)],
)
def test_tiles_cover_long_images_and_overlap(long, short, count):
    parts = tiles(long, short)
    assert len(parts) == count
    assert (parts[0][0], parts[-1][1]) == (0, long)
    assert all(0.2 * (stop - start) <= stop - after + 1 for (start, stop), (after, _) in pairwise(parts))


def test_a_car_in_a_wide_image_is_found_where_it_is_labelled(deeplab, data_folder):
    folder = data_folder / "kitti_object"
    found_boxes = []
    for name in ("000002", "000003", "000007"):
        car = max(
            (each for each in read_labels(folder / "label_2" / f"{name}.txt") if each.type == "Car"),
            key=lambda each: each.bbox_xyxy[3] - each.bbox_xyxy[1],
        )
        image = cv2.imread(str(folder / "image_2" / f"{name}.png"))
        masks = [each.mask for each in found(deeplab, image) if each.class_id == 2]
        found_boxes.append(max((box_iou(bbox_xywh(mask), car.bbox_xyxy) for mask in masks), default=0))
    assert min(found_boxes) > 0.5


def box_iou(xywh, xyxy):
    x, y, w, h = xywh
    x1, y1, x2, y2 = xyxy
    shared = max(0, min(x + w, x2) - max(x, x1)) * max(0, min(y + h, y2) - max(y, y1))
    return shared / (w * h + (x2 - x1) * (y2 - y1) - shared)
