"""The class head: names learned from 20 labels, how sure they are, and how long training takes; each beside a baseline.

    python -m benchmarks.class_head [DATA] [MODELS]

DATA (default: FOVEA_TEST_DATA or ../shared/data) holds balloon, coco8, kitti_object, mot17_frcnn; MODELS (default:
FOVEA_MODELS_DIR or ../shared/weights) the small encoder. Without them, what needs them is left out.

- "street": instances that `geometric` finds in the demo recording and in a second scene. 20 of the first scene's are
  labelled by ground truth; all others of both scenes are to be named, but those of the frames with a label. Baseline:
  the names `geometric` gives by typical size; and again with no class of known size.
- "photographs": balloons (outlined), cars of KITTI and pedestrians of MOT17 (boxes), against one another; things of
  coco8 as "none of these" that were never labelled. Baseline: the nearest label by the same features.
- "training": 5,000 labels of 20 classes, 1,280 features.
- "map": milliseconds to make and encode the map of uncertainty of a VGA frame; how well it tells the wrong pixels from
  the right ones (AUROC), beside nearness to the outline, which knows nothing of the model; with a head, and without.

Exits with 1 where a number misses its target.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.classification import calibration
from pipeline.classification.features import BOTH, DESCRIPTOR, MOBILENET, extractor, why_not
from pipeline.classification.head import ClassHead
from pipeline.classification.naming import Namer
from pipeline.geometry.kitti import read_labels
from pipeline.segmentation import uncertainty
from pipeline.segmentation.base import ClassSpec, Instance, View
from pipeline.segmentation.geometric import Geometric
from pipeline.simulation.recording import FPS, _Camera
from pipeline.simulation.render import Stage
from pipeline.simulation.scene import CLASSES
from pipeline.stereo.matching import SemiGlobalMatcher, disparity_to_depth

LABELS = 20
DRAWS = 6
CONFIDENCE = 0.5
STRANGE = 0.1
"""Things of no class among the photographs whose calibration is judged, as a share of the others."""
LEAST_ACCURACY = 0.9
MOST_SECONDS = 5.0
MOST_MILLISECONDS = 10.0
UNSIZED = tuple(
    ClassSpec(each.id, f"thing {each.id}", "", None if each.id > 1 else (9.0, 9.0, 9.0)) for each in CLASSES
)
"""The street's classes without what `geometric` could tell them apart by (one has to have a size: nothing's)."""
Mask = NDArray[np.bool_]
Moment = tuple[View, list[tuple[int, Mask]]]


class Found(NamedTuple):
    """What a segmenter found: the frame it is in, the instance, the class it really is (0: none)."""

    frame: int
    instance: Instance
    truth: int


class Outcome(NamedTuple):
    """Of instances not labelled: share called right; calibration error, with what is of no class among them (whatever
    it is called is wrong, but for "none of these"); and that without temperature and gate."""

    accuracy: float
    ece: float
    uncalibrated: float

    def line(self, name: str, baseline: float | None = None) -> str:
        beside = "" if baseline is None else f"{baseline:>12.3f}"
        return f"{name:<44}{self.accuracy:>9.3f}{self.ece:>8.3f}{self.uncalibrated:>10.3f}{beside}"


def judged(p: NDArray[np.float64], truth: NDArray[np.int64], ids: Sequence[int]) -> tuple[float, float]:
    """Accuracy and calibration error of probabilities (N, C + 1)."""
    right = np.array([*ids, 0])[p.argmax(axis=1)] == truth
    return float(right.mean()), calibration.expected_calibration_error(np.clip(p.max(axis=1), 0, 1), right)


def raw(head: ClassHead) -> ClassHead:
    """The head as it was before its temperature and its gate were fitted."""
    return replace(head, temperature=1.0, gate=(0.0, 50.0))


def named_by_truth(views: Sequence[Moment], classes: Sequence[ClassSpec]) -> list[Found]:
    """All instances of the frames, each with the class of the object it overlaps by half."""
    segmenter, found = Geometric(tuple(classes)), []
    for frame, (view, objects) in enumerate(views):
        for each in segmenter.segment([view])[0]:
            overlaps = [
                (np.count_nonzero(each.mask & mask) / np.count_nonzero(each.mask | mask), number)
                for number, mask in objects
            ]
            best, number = max(overlaps, default=(0.0, 0))
            found.append(Found(frame, each, number if best >= 0.5 else 0))
    return found


def street(frames: range, seed: int) -> list[Moment]:
    """Views of the scene as a real recording has them, and the class and mask of what is seen in each."""
    film = _Camera(seed, "VGA")
    camera, moments = film.rectifier.camera, []
    for index in frames:
        left, right, truth = film.film(index)
        left, right = film.rectifier.rectify(left, right)
        depth = disparity_to_depth(SemiGlobalMatcher.for_camera(camera).match(left, right), camera)
        axes, centre = film.scene.rig_pose(index / FPS)
        instances = Stage(film.scene, index / FPS).picture(film.eyes[0], axes, centre).instances
        instances = cv2.remap(instances, *film.maps, interpolation=cv2.INTER_NEAREST)
        view = View(left, depth, camera.matrix, np.array(truth["gravity"]))
        moments.append((view, [(each["class_id"], instances == each["object_id"]) for each in truth["objects"]]))
    return moments


def taught_street(
    views: Sequence[Moment],
    found: Sequence[Found],
    first: int,
    kind: str,
    models: Path,
    classes: Sequence[ClassSpec],
    path: Path,
) -> tuple[Outcome, tuple[float, float]]:
    """Label, train, name; `first`: how many frames are of the scene in which labels are drawn. And accuracy and
    calibration error of the segmenter's own names for the same instances."""
    worker = extractor(kind, (models,))
    by_frame: dict[int, list[int]] = {}
    for at, each in enumerate(found):
        by_frame.setdefault(each.frame, []).append(at)
    features = np.zeros((len(found), worker.dimension), np.float32)
    for frame, rows in by_frame.items():
        features[rows] = worker.of(views[frame][0], [found[row].instance.mask for row in rows])
    truth = np.array([each.truth for each in found])
    frames = np.array([each.frame for each in found])
    shown = np.array([(each.instance.objectness or 0.0) >= CONFIDENCE for each in found])
    results, own = [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        pool = np.flatnonzero(shown & (truth > 0) & (frames < first))
        labels = rng.choice(pool, LABELS, replace=False)
        head = ClassHead.fit(features[labels], truth[labels], classes, feature_kind=kind)
        head.save(path)
        namer = Namer.load(path, classes, "segmenter:geometric/1", (models,))
        rest = np.flatnonzero(shown & ~np.isin(frames, frames[labels]))
        said, sure, real = [], [], []
        for frame in sorted(set(frames[rest])):
            rows = [row for row in by_frame[frame] if shown[row]]
            masks = {id(found[row].instance.mask): row for row in rows}
            for each in namer.named(views[frame][0], [found[row].instance for row in rows]):
                really = truth[masks[id(each.mask)]]
                said.append(each.class_id == really)
                sure.append(each.confidence)
                real.append(really > 0)
        right = np.array(said)
        _, before = judged(raw(head).predict_proba(features[rest]), truth[rest], head.class_ids)
        ece = calibration.expected_calibration_error(np.clip(sure, 0, 1), right)
        results.append((right[np.array(real)].mean(), ece, before))
        by_size = np.array([found[row].instance.class_id == truth[row] for row in rest])
        sizes = np.array([found[row].instance.confidence for row in rest])
        own_ece = calibration.expected_calibration_error(np.clip(sizes, 0, 1), by_size)
        own.append((by_size[truth[rest] > 0].mean(), own_ece))
    return Outcome(*(float(np.mean(column)) for column in zip(*results, strict=True))), (
        float(np.mean([each[0] for each in own])),
        float(np.mean([each[1] for each in own])),
    )


def photographs(data: Path) -> Iterator[tuple[View, Mask, int, str]]:
    """Image, mask, class (1 balloon, 2 car, 3 pedestrian, 0 something else) and which photograph it is from."""
    for folder in sorted((data / "balloon").iterdir()):
        for name, entry in sorted(json.loads((folder / "via_region_data.json").read_text()).items()):
            path = folder / entry["filename"]
            if not path.is_file():
                continue
            view = View(np.asarray(cv2.imread(str(path)), np.uint8))
            regions = entry["regions"]
            for region in regions.values() if isinstance(regions, dict) else regions:
                shape = region["shape_attributes"]
                outline = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1).astype(np.int32)
                yield view, filled(view, outline), 1, name
    for path in sorted((data / "kitti_object" / "image_2").glob("*.png")):
        view = View(np.asarray(cv2.imread(str(path)), np.uint8))
        for label in read_labels(data / "kitti_object" / "label_2" / f"{path.stem}.txt"):
            if label.type in ("Car", "Van") and label.bbox_xyxy[3] - label.bbox_xyxy[1] >= 25 and label.occluded < 2:
                yield view, boxed(view, label.bbox_xyxy), 2, path.name
    for folder in sorted((data / "mot17_frcnn").iterdir()):
        rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
        for path in sorted((folder / "img1").glob("*.jpg")):
            view = View(np.asarray(cv2.imread(str(path)), np.uint8))
            for row in rows[(rows[:, 0] == int(path.stem)) & (rows[:, 7] == 1) & (rows[:, 8] > 0.8)]:
                yield (
                    view,
                    boxed(view, [row[2], row[3], row[2] + row[4], row[3] + row[5]]),
                    3,
                    f"{folder.name}{path.name}",
                )
    for path in sorted((data / "coco8" / "coco8-seg").rglob("*.jpg")):
        view = View(np.asarray(cv2.imread(str(path)), np.uint8))
        text = next((data / "coco8" / "coco8-seg").rglob(f"{path.stem}.txt")).read_text()
        for line in text.splitlines():
            number, *numbers = line.split()
            outline = (np.array(numbers, float).reshape(-1, 2) * view.image.shape[1::-1]).astype(np.int32)
            if int(number) != 0:
                yield view, filled(view, outline), 0, path.name


def filled(view: View, outline: NDArray[np.int32]) -> Mask:
    return cv2.fillPoly(np.zeros(view.image.shape[:2], np.uint8), [outline], 1) > 0


def boxed(view: View, box_xyxy: Sequence[float]) -> Mask:
    x0, y0, x1, y1 = (round(max(0.0, float(value))) for value in box_xyxy)
    mask = np.zeros(view.image.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def taught_photographs(
    features: NDArray[np.float32], truth: NDArray[np.int64], photos: NDArray[np.str_], labels: int
) -> tuple[Outcome, float, float]:
    """Of the three classes; the accuracy of the nearest label; and AUROC of what is of none of them."""
    classes = [ClassSpec(number, name) for number, name in enumerate(("balloon", "car", "pedestrian"), start=1)]
    results, nearest, strange = [], [], []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        order = rng.permutation(sorted(set(photos[truth > 0])))
        teach = np.flatnonzero(np.isin(photos, order[: len(order) // 2]) & (truth > 0))
        each = [rng.permutation(teach[truth[teach] == number]) for number in (1, 2, 3)]
        chosen = np.concatenate([rows[: -(-labels // 3)] for rows in each])[:labels]
        head = ClassHead.fit(
            features[chosen], truth[chosen], classes, feature_kind="photographs/1", groups=photos[chosen].tolist()
        )
        rest = np.flatnonzero(np.isin(photos, order[len(order) // 2 :]) & (truth > 0))
        strangers = np.flatnonzero(truth == 0)
        some = rng.choice(strangers, max(1, round(STRANGE * rest.size)), replace=False)
        p, q = head.predict_proba(features[rest]), head.predict_proba(features[strangers])
        accuracy, _ = judged(p, truth[rest], head.class_ids)
        every = np.concatenate([rest, some])
        _, ece = judged(head.predict_proba(features[every]), truth[every], head.class_ids)
        _, before = judged(raw(head).predict_proba(features[every]), truth[every], head.class_ids)
        results.append((accuracy, ece, before))
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        nearest.append(np.mean(truth[chosen][(unit[rest] @ unit[chosen].T).argmax(axis=1)] == truth[rest]))
        strange.append(calibration.auroc([*p[:, -1], *q[:, -1]], [False] * len(p) + [True] * len(q)))
    return (
        Outcome(*(float(np.mean(column)) for column in zip(*results, strict=True))),
        float(np.mean(nearest)),
        float(np.mean(strange)),
    )


def training_seconds() -> tuple[float, float, float]:
    """Seconds to fit 5,000 labels by the clock, and of the processor (one core is used: what it takes where nothing
    else runs); the head's accuracy by its own account."""
    rng = np.random.default_rng(0)
    classes = [ClassSpec(number, f"class {number}") for number in range(1, 21)]
    shape = np.linspace(1.2, 0.1, 1280)
    middles, labels = rng.normal(0, 0.2, (21, 1280)), rng.integers(1, 21, 5000)
    features = ((middles[labels] + rng.normal(0, 1, (5000, 1280))) * shape).astype(np.float32)
    taken = []
    for _ in range(2):
        started = time.perf_counter(), time.process_time()
        head = ClassHead.fit(features, labels, classes, feature_kind="noise/1")
        taken.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    clock, own = (min(column) for column in zip(*taken, strict=True))
    return clock, own, float(head.meta["metrics"]["accuracy"])


class Doubt(NamedTuple):
    """Of maps of uncertainty: milliseconds a frame; AUROC for wrong pixels, of the map and of nearness to the outline;
    share of pixels expected to be wrong, and of those that are. A pixel is wrong if it is called of another class."""

    milliseconds: float
    auroc: float
    near: float
    expected: float
    wrong: float


def map_of(views: Sequence[Moment], namer: Namer | None) -> Doubt:
    """On the cells of the maps; with the names of a class head, or those of the segmenter."""
    segmenter, times = Geometric(CLASSES), []
    scores, near, wrong = [], [], []
    for view, objects in views:
        found = segmenter.segment([view])[0]
        if namer is not None:
            found = namer.named(view, found)
        shape = view.image.shape[:2]
        best = np.inf
        for _ in range(3):
            started = time.perf_counter()
            cells = uncertainty.uncertainty_map(found, (shape[0], shape[1]))
            uncertainty.encoded(cells)
            best = min(best, time.perf_counter() - started)
        times.append(best)
        said, really = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for each in reversed([each for each in found if each.confidence >= CONFIDENCE]):
            said[each.mask] = each.class_id
        for number, mask in objects:
            really[mask] = number
        some = (said > 0).astype(np.uint8)
        distance = cv2.distanceTransform(some, cv2.DIST_L2, 3) + cv2.distanceTransform(1 - some, cv2.DIST_L2, 3)
        step = uncertainty.SCALE
        centre = (slice(step // 2, None, step), slice(step // 2, None, step))
        wrong.append((said != really)[centre].ravel())
        near.append(-distance[centre].ravel())
        scores.append(cells[: -(-(shape[0] - step // 2) // step), : -(-(shape[1] - step // 2) // step)].ravel())
    flags, values = np.concatenate(wrong), np.concatenate(scores)
    return Doubt(
        1000 * float(np.median(times)),
        calibration.auroc(values, flags),
        calibration.auroc(np.concatenate(near), flags),
        float(uncertainty.expected_wrong(values).mean()),
        float(flags.mean()),
    )


def taught(views: Sequence[Moment], folder: Path) -> Namer:
    """A head that knows LABELS instances of the first views."""
    found = [each for each in named_by_truth(views, CLASSES) if each.truth][:LABELS]
    worker = extractor(DESCRIPTOR, ())
    features = np.concatenate([worker.of(views[each.frame][0], [each.instance.mask]) for each in found])
    path = folder / "taught.npz"
    ClassHead.fit(features, [each.truth for each in found], CLASSES, feature_kind=DESCRIPTOR).save(path)
    return Namer.load(path, CLASSES, "segmenter:geometric/1", ())


def main(data: Path, models: Path) -> int:
    missed = []
    kinds = [DESCRIPTOR, *(kind for kind in (MOBILENET, BOTH) if not why_not(kind, (models,)))]
    if len(kinds) == 1:
        print(f"(left out: {why_not(MOBILENET, (models,))})")
    scenes = [*street(range(0, 60, 5), 7), *street(range(0, 60, 10), 3)]
    first = len(range(0, 60, 5))
    print(f"{'':<44}{'accuracy':>9}{'ECE':>8}{'before':>10}{'baseline':>12}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "head.npz"
        for classes, what in ((CLASSES, "street"), (UNSIZED, "street, sizes unknown")):
            found = named_by_truth(scenes, classes)
            for kind in kinds:
                outcome, own = taught_street(scenes, found, first, kind, models, classes, path)
                print(outcome.line(f"{what}, {kind}", own[0]) + f"   (ECE {own[1]:.3f})")
                if outcome.accuracy < LEAST_ACCURACY and (classes is CLASSES or kind == BOTH):
                    missed.append(f"{what}, {kind}: accuracy {outcome.accuracy:.3f} < {LEAST_ACCURACY}")
    if (data / "balloon").is_dir():
        items = list(photographs(data))
        truth = np.array([number for _, _, number, _ in items])
        photos = np.array([photo for _, _, _, photo in items])
        print(f"\n{'photographs: ' + str(np.bincount(truth).tolist()):<44}{'':>27}{'nearest':>12}{'none AUROC':>12}")
        for kind in kinds:
            worker = extractor(kind, (models,))
            features = np.concatenate([worker.of(view, [mask]) for view, mask, _, _ in items])
            for labels in (6, LABELS, 60):
                outcome, nearest, strange = taught_photographs(features, truth, photos, labels)
                print(outcome.line(f"{kind}, {labels} labels", nearest) + f"{strange:>12.3f}")
                if labels == LABELS and kind == BOTH and outcome.accuracy < LEAST_ACCURACY:
                    missed.append(f"photographs, {kind}: accuracy {outcome.accuracy:.3f} < {LEAST_ACCURACY}")
    clock, seconds, accuracy = training_seconds()
    print(
        f"\n{'training on 5,000 labels':<44}{seconds:>7.2f} s of one core (target {MOST_SECONDS:.0f} s; "
        f"{clock:.2f} s by the clock; accuracy {accuracy:.3f})"
    )
    if seconds > MOST_SECONDS:
        missed.append(f"training took {seconds:.1f} s > {MOST_SECONDS} s")
    with TemporaryDirectory() as folder:
        namer = taught(scenes[:4], Path(folder))
    plain, named = map_of(scenes[4:], None), map_of(scenes[4:], namer)
    taken = max(plain.milliseconds, named.milliseconds)
    print(f"{'map of a VGA frame':<44}{taken:>7.2f} ms (target {MOST_MILLISECONDS:.0f} ms)")
    for each, what in ((plain, "geometric's names"), (named, f"a head of {LABELS} labels")):
        print(
            f"{f'wrong pixels, {what}':<44}{each.auroc:>7.3f} AUROC (nearness to the outline: {each.near:.3f}); "
            f"expected {100 * each.expected:.1f} %, are {100 * each.wrong:.1f} %"
        )
    if taken > MOST_MILLISECONDS:
        missed.append(f"the map took {taken:.1f} ms > {MOST_MILLISECONDS} ms")
    if named.auroc < named.near:
        missed.append(f"the map tells wrong pixels worse than the outline: {named.auroc:.3f} < {named.near:.3f}")
    for sentence in missed:
        print(f"MISSED: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    arguments = [Path(each) for each in sys.argv[1:]]
    sys.exit(
        main(
            arguments[0] if arguments else Path(os.environ.get("FOVEA_TEST_DATA") or "../shared/data"),
            arguments[1] if len(arguments) > 1 else Path(os.environ.get("FOVEA_MODELS_DIR") or "../shared/weights"),
        )
    )
