"""What must hold of every segmenter that runs here, whatever it is shown."""

import cv2
import numpy as np
import pytest

from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, View

CLASSES = (ClassSpec(1, "person"), ClassSpec(2, "car"), ClassSpec(3, "cyclist"), ClassSpec(7, "dog"))
NAMES = ("geometric", "deeplab")


@pytest.fixture(scope="module")
def segmenters(models_folder):
    pytest.importorskip("ai_edge_litert", reason="the runtime of the tflite file is not installed")
    return {name: registry.load(name, CLASSES, (models_folder,)) for name in NAMES}


def matrix(height, width):
    return np.array([[0.5 * width, 0, width / 2], [0, 0.5 * width, height / 2], [0, 0, 1.0]])


def ground(height, width, camera_height=1.5):
    """Depth of level ground, NaN above the horizon."""
    rows = (np.arange(height) - height / 2) / (0.5 * width)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rows > 0.02, camera_height / rows, np.nan)
    return np.repeat(depth[:, None], width, axis=1).astype(np.float32)


def check(instances, shape):
    """All that is promised of instances of an image of that shape (h, w)."""
    confidences = [each.confidence for each in instances]
    assert confidences == sorted(confidences, reverse=True)
    ids = {each.id for each in CLASSES}
    for each in instances:
        assert each.mask.shape == shape
        assert each.mask.dtype == np.bool_
        assert each.mask.any()
        assert each.class_id in ids >= set(each.class_scores)
        assert 0 < each.confidence <= 1
        assert sum(each.class_scores.values()) <= 1 + 1e-6
        assert each.logits.dtype == np.float16
        assert np.isfinite(each.logits).all()
        assert np.array_equal(each.mask, each.logits > 0)
        assert 0 <= each.stability <= 1
        assert 0 < each.quality <= 1
        assert each.features is None or np.isfinite(each.features).all()
    if instances:
        assert np.sum([each.mask for each in instances], axis=0).max() == 1


def pictures(height, width):
    rng = np.random.default_rng(4)
    noise = rng.integers(0, 255, (height, width, 3), np.uint8)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3) if min(height, width) > 3 else noise
    return {
        "black": np.zeros_like(noise),
        "white": np.full_like(noise, 255),
        "noise": noise,
        "grey": np.repeat(blobs[..., :1], 3, axis=2),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 300), (300, 7), (64, 64), (376, 672)])
def test_images_of_any_size_with_and_without_depth(name, shape, segmenters):
    rng = np.random.default_rng(5)
    depths = [
        None,
        np.full(shape, np.nan, np.float32),
        np.full(shape, 3.0, np.float32),
        rng.uniform(0.3, 30, shape).astype(np.float32),
        ground(*shape),
    ]
    views = [
        View(image, depth, None if depth is None else matrix(*shape), np.array([0.0, 1.0, 0.0]))
        for image, depth in zip([*pictures(*shape).values(), pictures(*shape)["noise"]], depths, strict=True)
    ]
    for instances in segmenters[name].segment(views):
        check(instances, shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_image(name, segmenters, data_folder):
    photo = cv2.imread(str(data_folder / "video_sam2" / "truck.jpg"))
    huge = cv2.resize(photo, (4416, 2942))
    view = View(huge, ground(2942, 4416), matrix(2942, 4416))
    instances = segmenters[name].segment([view])[0]
    check(instances, (2942, 4416))
    assert any(each.class_id == 2 for each in instances) == (name == "deeplab")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.inf, -1.0, 0.0, 1e-30, 1e30])
def test_depths_that_cannot_be(name, value, segmenters):
    depth = ground(120, 160)
    depth[20:80, 40:80] = value
    view = View(pictures(120, 160)["noise"], depth, matrix(120, 160))
    check(segmenters[name].segment([view])[0], (120, 160))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_things_of_a_few_pixels_on_the_ground(name, size, segmenters):
    depth = ground(240, 320)
    image = np.full((240, 320, 3), 120, np.uint8)
    depth[150 - size : 150, 160 : 160 + size] = depth[150, 160]
    image[150 - size : 150, 160 : 160 + size] = (30, 60, 200)
    check(segmenters[name].segment([View(image, depth, matrix(240, 320))])[0], (240, 320))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bytes_on_any_number_of_threads(name, segmenters, street, data_folder):
    photo = cv2.imread(str(next((data_folder / "coco8" / "coco8-seg").rglob("000000000036.jpg"))))
    view = street.view if name == "geometric" else View(photo)
    threads = cv2.getNumThreads()
    results = []
    try:
        for number in (1, 4):
            cv2.setNumThreads(number)
            results.append(segmenters[name].segment([view])[0])
    finally:
        cv2.setNumThreads(threads)
    assert len(results[0]) == len(results[1]) > 0
    for a, b in zip(*results, strict=True):
        assert (a.class_id, a.confidence, a.quality, a.stability) == (b.class_id, b.confidence, b.quality, b.stability)
        assert a.logits.tobytes() == b.logits.tobytes()
