"""Segmenters against ground truth, each beside a named baseline, with the time a frame takes.

    python -m benchmarks.segmentation [FOLDER] [MODELS]

FOLDER (default: FOVEA_TEST_DATA or ../shared/data) holds kitti_object, coco8 and svo2_zed2i, MODELS (default:
FOVEA_MODELS_DIR or ../shared/weights) the DeepLab file.

- "deeplab": recall and precision of cars (and vans) at least MIN_HEIGHT pixels high on kitti_object at 2D IoU 0.5;
  IoU of the masks with coco8's polygons, class by class. Baselines: one letterboxed pass over the whole image; what is
  connected as one instance; outlines as the network's cells give them. And the time the network itself takes in the
  file's own form (all tensors kept), cut short, and rebuilt in floating point (where torch and onnxruntime are).
- "geometric": objects of the simulated street at mask IoU 0.5, the mean IoU of those found, and how well their outlines
  lie on the true ones (F-measure at BOUNDARY pixels). Baseline: any connected piece of depth above the ground that has
  the height of something. And what it sees in a real, empty hall, where whatever is found is wrong.

Exits with 1 where a target is missed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.geometry.kitti import read_labels
from pipeline.geometry.plane import fit_ground_plane
from pipeline.recordings.opening import open_recording
from pipeline.segmentation import deeplab, registry
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.components import surface_components
from pipeline.segmentation.deeplab_runtime import LiteNetwork, OnnxNetwork
from pipeline.segmentation.geometric import Geometric
from pipeline.segmentation.rle import bbox_xywh
from pipeline.segmentation.vocabulary import VOC
from pipeline.simulation.recording import CLASSES, FPS, _Camera
from pipeline.simulation.render import Stage
from pipeline.stereo.inertial import Gravity
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth
from pipeline.stereo.rectification import Rectifier

MIN_HEIGHT = 25
MIN_VISIBLE_PIXELS = 300
MATCH_IOU = 0.5
CONFIDENCE = 0.5
BOUNDARY = 2
CARS_RECALL, CARS_PRECISION, COCO_IOU = 0.70, 0.70, 0.42
DEEPLAB_IOU = 0.70
STREET_IOU, STREET_PRECISION, STREET_RECALL, ARENA_MOST = 0.84, 0.90, 0.85, 10
COCO_TO_VOC = {0: "person", 16: "dog", 17: "horse", 58: "pottedplant", 39: "bottle", 56: "chair"}
ROAD = (ClassSpec(1, "person"), ClassSpec(2, "car"), ClassSpec(3, "cyclist"))
Boxes = Sequence[Sequence[float]]


class Result(NamedTuple):
    found: int
    demanded: int
    made: int
    seconds: float
    overlap: float = 0.0
    boundary: float = 0.0

    def line(self, name: str) -> str:
        return (
            f"{name:<34}{self.found / max(1, self.demanded):>8.2f}{self.found / max(1, self.made):>11.2f}"
            f"{self.found:>7}/{self.demanded:<4}{1000 * self.seconds:>8.0f} ms"
        )


def matched(overlaps: NDArray[np.float64]) -> int:
    """How many rows have a column of their own with an overlap of MATCH_IOU and more."""
    from scipy.optimize import linear_sum_assignment

    good = overlaps >= MATCH_IOU
    return int(good[linear_sum_assignment(-good.astype(float))].sum()) if overlaps.size else 0


def box_overlaps(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    from pipeline.tracking.association import iou_xyxy

    return iou_xyxy(*(np.asarray(boxes, np.float64).reshape(-1, 4) for boxes in (a, b)))


def cars(network: deeplab.DeepLab, folder: Path) -> Result:
    found = demanded = made = 0
    seconds = 0.0
    images = sorted((folder / "image_2").glob("*.png"))
    for path in images:
        started = time.perf_counter()
        instances = network.segment([View(np.asarray(cv2.imread(str(path)), np.uint8))])[0]
        seconds += time.perf_counter() - started
        boxes = [np.array(bbox_xywh(each.mask)) for each in instances if each.class_id == 2]
        boxes = [np.concatenate([box[:2], box[:2] + box[2:]]) for box in boxes]
        labels = [each for each in read_labels(folder / "label_2" / f"{path.stem}.txt") if each.type in ("Car", "Van")]
        high = [each.bbox_xyxy for each in labels if each.bbox_xyxy[3] - each.bbox_xyxy[1] >= MIN_HEIGHT]
        low = [each.bbox_xyxy for each in labels if each.bbox_xyxy[3] - each.bbox_xyxy[1] < MIN_HEIGHT]
        # What matches a car too small to be demanded is not held against anyone.
        ignored = [box for box in boxes if low and box_overlaps([box], low).max() >= MATCH_IOU]
        found += matched(box_overlaps(high, boxes))
        demanded, made = demanded + len(high), made + len(boxes) - len(ignored)
    return Result(found, demanded, made, seconds / len(images))


def polygons(network: deeplab.DeepLab, folder: Path) -> tuple[float, int]:
    """Mean IoU of what is said to be of a class with all of its polygons, over images and classes; and how many."""
    overlaps = []
    for path in sorted(folder.rglob("*.jpg")):
        image = np.asarray(cv2.imread(str(path)), np.uint8)
        truth: dict[str, NDArray[np.uint8]] = {}
        for line in next(folder.rglob(f"{path.stem}.txt")).read_text().splitlines():
            number, *numbers = line.split()
            if name := COCO_TO_VOC.get(int(number)):
                points = (np.array(numbers, float).reshape(-1, 2) * image.shape[1::-1]).astype(np.int32)
                cv2.fillPoly(truth.setdefault(name, np.zeros(image.shape[:2], np.uint8)), [points], 1)
        instances = network.segment([View(image)])[0] if truth else []
        for name, mask in truth.items():
            mine = [each.mask for each in instances if each.class_id == VOC.index(name)]
            union = np.any(mine, axis=0) if mine else np.zeros(mask.shape, bool)
            overlaps.append(np.count_nonzero(union & (mask > 0)) / np.count_nonzero(union | (mask > 0)))
    return float(np.mean(overlaps)), len(overlaps)


def runtimes(path: Path, photo: Path) -> None:
    """Milliseconds an image through the network alone; medians of five."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    canvas = deeplab._letterboxed(np.asarray(cv2.imread(str(photo)), np.uint8))
    whole = Interpreter(
        str(path),
        num_threads=2,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    whole.allocate_tensors()

    def kept() -> None:
        whole.set_tensor(whole.get_input_details()[0]["index"], canvas[None])
        whole.invoke()

    lite = LiteNetwork(path)
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "network, all tensors kept": (kept, 1),
        "network, cut short": (lambda: lite.run([canvas]), 1),
        "network, cut short, two at a time": (lambda: lite.run([canvas] * 4), 4),
    }
    try:
        from pipeline.segmentation.deeplab_torch import read_network, save_checkpoint

        with TemporaryDirectory() as folder:
            save_checkpoint(read_network(path), Path(folder) / "rebuilt.safetensors")
            rebuilt = OnnxNetwork(Path(folder) / "rebuilt.safetensors")
        runs["network, rebuilt, onnxruntime"] = lambda: rebuilt.run([canvas]), 1
    except (ImportError, SegmenterUnavailableError) as error:
        print(f"the rebuilt network is not measured: {error}")
    for name, (run, images) in runs.items():
        times = []
        for _ in range(6):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        print(f"{name:<34}{1000 * float(np.median(times[1:])) / images:>8.0f} ms")


def connected_pieces(view: View) -> list[Instance]:
    """The baseline of "geometric": what is joined in depth and stands between 0.2 and 2.5 m above the ground."""
    if view.depth is None or view.camera_matrix is None:
        return []
    k, (h, w) = view.camera_matrix, view.depth.shape
    v, u = np.mgrid[:h, :w]
    points = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones((h, w))], 2) * view.depth[..., None]
    plane = fit_ground_plane(points[::5, ::5].reshape(-1, 3), view.gravity, inverse_depth_noise=0.012)
    if plane is None:
        return []
    height = plane.height(points)
    standing = np.isfinite(height) & (height > 0.2) & (height < 2.5) & (view.depth < 16)
    labels, _ = surface_components(view.depth, standing, float(k[0, 0]))
    sizes = np.bincount(labels[standing])
    return [Instance(labels == each, 1, 1.0) for each in np.flatnonzero(sizes >= MIN_VISIBLE_PIXELS)]


def boundary_f(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """F-measure of the outline of `a` (H, W) against that of `b`: pixels within BOUNDARY of the other's."""
    edges = [mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) for mask in (a, b)]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BOUNDARY + 1,) * 2)
    near = [cv2.dilate(edge.astype(np.uint8), kernel) > 0 for edge in edges]
    precision, recall = (np.count_nonzero(edges[k] & near[1 - k]) / max(1, edges[k].sum()) for k in (0, 1))
    return 2 * precision * recall / max(1e-9, precision + recall)


def street(
    segment: Callable[[View], Iterable[Instance]], moments: list[tuple[View, list[NDArray[np.bool_]]]]
) -> Result:
    found = demanded = made = 0
    seconds, overlap, boundary = 0.0, [], []
    for view, objects in moments:
        started = time.perf_counter()
        masks = [each.mask for each in segment(view) if each.confidence >= CONFIDENCE]
        seconds += time.perf_counter() - started
        overlaps = np.array([[np.count_nonzero(a & b) / np.count_nonzero(a | b) for b in masks] for a in objects])
        overlaps = overlaps.reshape(len(objects), len(masks))
        found += matched(overlaps)
        demanded, made = demanded + len(objects), made + len(masks)
        for i, j in zip(*np.nonzero(overlaps >= MATCH_IOU), strict=True):
            overlap.append(overlaps[i, j])
            boundary.append(boundary_f(objects[i], masks[j]))
    return Result(found, demanded, made, seconds / len(moments), float(np.mean(overlap)), float(np.mean(boundary)))


def arena(folder: Path) -> list[View]:
    """Frames of an empty glossy arena filmed by a ZED 2i."""
    with open_recording(folder / "test.svo2", prefer_sdk=False) as recording:
        rectifier = Rectifier(recording.calibration)
        gravity = Gravity((each.timestamp_ns, each.acceleration) for each in recording.imu())
        views = []
        for frame in recording.frames(range(12)):
            left, right = rectifier.rectify(frame.left, frame.right)
            matcher = SemiGlobalMatcher.for_camera(rectifier.camera)
            depth = disparity_to_depth(matcher.match(left, right), rectifier.camera)
            down = rectifier.rotation_left @ gravity.down(frame.timestamp_ns)
            views.append(View(left, depth, rectifier.camera.matrix, down))
    return views


def filmed(frames: Iterable[int], seed: int) -> list[tuple[View, list[NDArray[np.bool_]]]]:
    film = _Camera(seed, "VGA")
    camera, moments = film.rectifier.camera, []
    for index in frames:
        left, right, truth = film.film(index)
        left, right = film.rectifier.rectify(left, right)
        depth = disparity_to_depth(SemiGlobalMatcher.for_camera(camera).match(left, right), camera)
        axes, centre = film.scene.rig_pose(index / FPS)
        instances = Stage(film.scene, index / FPS).picture(film.eyes[0], axes, centre).instances
        instances = cv2.remap(instances, *film.maps, interpolation=cv2.INTER_NEAREST)
        masks = [instances == each["object_id"] for each in truth["objects"]]
        view = View(left, depth, camera.matrix, np.array(truth["gravity"]))
        moments.append((view, [mask for mask in masks if np.count_nonzero(mask) >= MIN_VISIBLE_PIXELS]))
    return moments


def main(data: Path, models: Path) -> int:
    print(f"{'':<34}{'recall':>8}{'precision':>11}{'found':>9}{'a frame':>14}")
    network = deeplab.DeepLab(ROAD, (models,))
    whole = mock.patch.object(deeplab, "tiles", lambda long, _short: [(0, long)])
    uncut = mock.patch.object(deeplab, "by_concavity", lambda part, _least: [part])
    with whole:
        baseline = cars(network, data / "kitti_object")
    with uncut:
        connected = cars(network, data / "kitti_object")
    tiled = cars(network, data / "kitti_object")
    print(baseline.line("kitti_object cars, one pass"))
    print(connected.line("kitti_object cars, as connected"))
    print(tiled.line("kitti_object cars, deeplab"))
    print(f"{'ratio to one pass':<34}{tiled.found / max(1, baseline.found):>8.2f}")
    everything = tuple(ClassSpec(number, name) for number, name in enumerate(VOC[1:], start=1))
    network = deeplab.DeepLab(everything, (models,))
    with whole:
        once = polygons(network, data / "coco8" / "coco8-seg")
    overlap, count = polygons(network, data / "coco8" / "coco8-seg")
    with mock.patch.object(deeplab, "refined", lambda _image, _mask, _evidence, prior: prior):
        coarse = polygons(network, data / "coco8" / "coco8-seg")
    print(
        f"\n{f'coco8, mean IoU of {count} classes':<34}{overlap:>8.3f}   "
        f"(one pass: {once[0]:.3f}, outlines not drawn to the image: {coarse[0]:.3f})"
    )
    runtimes(models / registry.DEEPLAB_FILE, data / "video_sam2" / "truck.jpg")
    moments = filmed(range(3, 60, 14), 7) + filmed(range(10, 60, 20), 3)
    geometric = Geometric(CLASSES)
    print()
    baseline = street(connected_pieces, moments)
    ours = street(lambda view: geometric.segment([view])[0], moments)
    print(baseline.line("street, connected depth"))
    print(ours.line("street, geometric"))
    ratio = (ours.found / max(1, ours.made)) / max(1e-9, baseline.found / max(1, baseline.made))
    print(f"{'ratio to connected depth':<34}{ours.found / max(1, baseline.found):>8.2f}{ratio:>11.2f}")
    for name, result in (("connected depth", baseline), ("geometric", ours)):
        print(f"{f'masks of {name}':<34}{result.overlap:>8.3f} mean IoU{result.boundary:>8.3f} boundary F")
    network = deeplab.DeepLab(ROAD, (models,))
    flat = [(replace(view, depth=None), objects) for view, objects in moments]
    with_depth, without = best_overlap(network, moments), best_overlap(network, flat)
    print(f"{'masks of deeplab with depth':<34}{with_depth:>8.3f} mean IoU   (without depth: {without:.3f})")
    views = arena(data / "svo2_zed2i")
    empty = tuple(ClassSpec(n, name) for n, name in enumerate(("person", "car", "bicycle", "dog", "chair"), start=1))
    wrong = sum(each.confidence >= CONFIDENCE for found in Geometric(empty).segment(views) for each in found)
    anything = sum(len(connected_pieces(view)) for view in views)
    print(f"{'false in 12 frames of a real hall':<34}{wrong:>8}   (connected depth: {anything})")
    print()
    return judged(
        ("kitti_object cars, recall", tiled.found / tiled.demanded, CARS_RECALL),
        ("kitti_object cars, precision", tiled.found / max(1, tiled.made), CARS_PRECISION),
        ("coco8, mean IoU", overlap, COCO_IOU),
        ("street, mean mask IoU", ours.overlap, STREET_IOU),
        ("street, recall", ours.found / ours.demanded, STREET_RECALL),
        ("street, precision", ours.found / max(1, ours.made), STREET_PRECISION),
        ("street, deeplab with depth", with_depth, DEEPLAB_IOU),
        ("real hall, false detections", -wrong, -ARENA_MOST),
    )


def best_overlap(network: deeplab.DeepLab, moments: list[tuple[View, list[NDArray[np.bool_]]]]) -> float:
    """Mean IoU of the objects of which the network finds something, each with the instance that lies on it best."""
    best = []
    for view, objects in moments:
        masks = [each.mask for each in network.segment([view])[0]]
        overlaps = np.array([[np.count_nonzero(a & b) / np.count_nonzero(a | b) for b in masks] for a in objects])
        best += [float(each) for each in overlaps.reshape(len(objects), -1).max(axis=1, initial=0) if each > 0.3]
    return float(np.mean(best)) if best else 0.0


def judged(*targets: tuple[str, float, float]) -> int:
    """1 if one of (name, value, least) is missed."""
    for name, value, least in targets:
        print(f"{name:<34}{abs(value):>8.3f}   target {abs(least):<6} {'met' if value >= least else 'MISSED'}")
    return int(any(value < least for _, value, least in targets))


if __name__ == "__main__":
    arguments = [Path(each) for each in sys.argv[1:]]
    code = main(
        arguments[0] if arguments else Path(os.environ.get("FOVEA_TEST_DATA") or "../shared/data"),
        arguments[1] if len(arguments) > 1 else Path(os.environ.get("FOVEA_MODELS_DIR") or "../shared/weights"),
    )
    sys.exit(code)
