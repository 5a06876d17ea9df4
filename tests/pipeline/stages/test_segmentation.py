import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline.classification.features import DESCRIPTOR, segmenter_kind, sequence_features
from pipeline.classification.head import ClassHead
from pipeline.errors import ClassHeadError, SegmenterUnavailableError
from pipeline.segmentation import rle
from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.geometric import Geometric
from pipeline.simulation.render import Eye, Stage
from pipeline.simulation.scene import CLASSES, street_corner
from pipeline.stages.base import StageContext
from pipeline.stages.run import journal_path, run_stage
from pipeline.stages.segmentation import Segmentation
from pipeline.stereo.calibration import CameraIntrinsics
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json, write_npy
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import DetectionRecord, FrameRecord
from pipeline.storage.sequence import read_detections

EYE = CameraIntrinsics(672, 376, 340.0, 340.0, 335.5, 187.5)
BLACK, BROKEN = 2, 3
FRAMES = 5


@pytest.fixture(scope="module")
def shots():
    """Three moments of the street with exact depth: image, depth, gravity."""
    scene, eye = street_corner(), Eye.of(EYE)
    shots = []
    for time in (0.2, 1.6, 2.0):
        axes, centre = scene.rig_pose(time)
        picture = Stage(scene, time).picture(eye, axes, centre, smooth=False)
        depth = np.where(picture.depth < 30, picture.depth, np.nan).astype(np.float32)
        shots.append((picture.image, depth, (axes.T @ np.array([0.0, 1.0, 0.0])).tolist()))
    return shots


def extracted(root, shots):
    """A sequence as extraction leaves it: five frames, the third black, the fourth's image file damaged."""
    layout = SequenceLayout(root)
    camera = RectifiedCamera(EYE.width, EYE.height, EYE.fx, EYE.fy, EYE.cx, EYE.cy, 0.12, metric=True)
    write_json(layout.calibration, camera.to_json())
    layout.image_left(0).parent.mkdir(parents=True, exist_ok=True)
    with Journal(journal_path(layout, "extraction")) as journal:
        for number, shot in enumerate((0, 1, 0, 1, 2)):
            image, depth, gravity = shots[shot]
            cv2.imwrite(str(layout.image_left(number)), image * (number != BLACK), (cv2.IMWRITE_PNG_COMPRESSION, 1))
            write_npy(layout.depth(number), depth)
            frame = FrameRecord(
                number, 2 * number, 10 * number, EYE.width, EYE.height, "0" * 16, 0.1, has_depth=True, gravity=gravity
            )
            journal.append(Commit(number + 1, [frame.to_json()]))
    layout.image_left(BROKEN).write_bytes(b"\x89PNG cut off")
    return StageContext(layout, root / "none.svo2", classes=CLASSES)


def run(stage, context):
    return [commit for commit, _ in run_stage(stage, context)]


def outputs(context):
    """Everything the stage wrote that is not about time."""
    folders = context.layout.detections.parent, context.layout.uncertainty(0).parent
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {str(path.relative_to(context.layout.root)): path.read_bytes() for path in paths}
    return files, [each.to_json() for each in read_detections(context.layout)]


@pytest.fixture(scope="module")
def done(tmp_path_factory, shots):
    context = extracted(tmp_path_factory.mktemp("sequence"), shots)
    return context, run(Segmentation("geometric"), context)


def test_there_is_a_commit_for_every_frame(done):
    _, commits = done
    assert [commit.cursor for commit in commits] == [1, 2, 3, 4, 5]


def test_a_black_and_a_damaged_frame_are_skipped_with_their_reason(done):
    _, commits = done
    assert [bool(commit.error) for commit in commits] == [False, False, True, True, False]
    assert commits[BLACK].error == "Frame 2 is black."
    assert "000003.png" in commits[BROKEN].error
    assert commits[BLACK].records == commits[BROKEN].records == []


def test_records_masks_and_run_lengths_agree(done):
    context, commits = done
    records = [DetectionRecord.from_json(value) for commit in commits for value in commit.records]
    assert len(records) >= 9
    for record in records:
        mask = cv2.imread(str(context.layout.mask(record.number, record.instance)), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(rle.decode(record.rle), mask > 0)
        assert record.area == np.count_nonzero(mask)
        assert record.bbox_xywh == coco.toBbox(record.rle).tolist()
        assert record.confidence >= 0.5
        scores = [each["confidence"] for each in record.top_predictions]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) <= 1 + 1e-6
        assert record.class_name == record.top_predictions[0]["class_label"]


def test_detections_json_holds_what_the_journal_holds(done):
    context, _ = done
    content = json.loads(context.layout.detections.read_text())
    assert (content["version"], content["segmenter"]) == (1, "geometric")
    assert [frame["number"] for frame in content["frames"]] == list(range(FRAMES))
    assert content["frames"][4]["source_index"] == 8
    assert content["frames"][BLACK]["error"]
    told = [each["mask"] for frame in content["frames"] for each in frame["detections"]]
    assert sorted(told) == sorted(path.name for path in context.layout.masks.iterdir())


def test_every_frame_that_was_segmented_has_a_map_of_uncertainty(done):
    context, commits = done
    for number, commit in enumerate(commits):
        path = context.layout.uncertainty(number)
        if commit.error:
            assert (path.exists(), commit.frame) == (False, {})
            continue
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (found.shape, found.dtype) == ((94, 168), np.uint8)
        assert commit.frame["uncertainty"] == pytest.approx(found.mean() / 255, abs=1e-6)
        assert 0 < commit.frame["uncertainty"] < 0.3


def test_the_margin_is_how_far_the_best_class_is_ahead(done):
    for record in read_detections(done[0].layout):
        first, second = [*(each["confidence"] for each in record.top_predictions), 0.0][:2]
        assert record.margin == pytest.approx(first - second, abs=1e-6)


@pytest.mark.parametrize("cursor", [1, 2, 3, 4])
def test_a_run_cut_off_anywhere_ends_with_the_same_bytes(done, tmp_path, shots, cursor):
    context = extracted(tmp_path, shots)
    commits = run_stage(Segmentation("geometric", batch_size=3), context)
    for _ in range(cursor):
        next(commits)
    commits.close()
    run(Segmentation("geometric", batch_size=3), context)
    assert outputs(context) == outputs(done[0])


def test_the_threshold_and_the_classes_asked_for_select(done, tmp_path, shots):
    context = extracted(tmp_path, shots)
    stage = Segmentation("geometric", confidence_threshold=0.8, object_class_ids=(3,))
    kept = [DetectionRecord.from_json(value) for commit in run(stage, context) for value in commit.records]
    expected = [each for each in read_detections(done[0].layout) if each.class_id == 3 and each.confidence >= 0.8]
    assert kept
    assert [(each.number, each.rle) for each in kept] == [(each.number, each.rle) for each in expected]


def test_a_segmenter_that_is_not_there_stops_before_the_first_frame(tmp_path, shots):
    context = extracted(tmp_path, shots)
    with pytest.raises(SegmenterUnavailableError, match="FOVEA_MODELS_DIR"):
        run(Segmentation("deeplab"), replace(context, models_folders=(tmp_path,)))


def test_a_sequence_that_is_not_metric_offers_no_depth(tmp_path, shots):
    context = extracted(tmp_path, shots)
    camera = RectifiedCamera(EYE.width, EYE.height, EYE.fx, EYE.fy, EYE.cx, EYE.cy, None, metric=False)
    write_json(context.layout.calibration, camera.to_json())
    assert [commit.records for commit in run(Segmentation("geometric"), context)] == [[]] * FRAMES


def test_an_empty_sequence_leaves_an_empty_summary(tmp_path, shots):
    context = extracted(tmp_path, shots)
    journal_path(context.layout, "extraction").write_text("")
    assert run(Segmentation("geometric"), context) == []
    assert json.loads(context.layout.detections.read_text())["frames"] == []


FAILURES = [np.linalg.LinAlgError("Singular matrix"), cv2.error("bad size"), FloatingPointError("underflow")]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_segmenter_that_fails_on_a_frame_loses_that_frame_only(done, tmp_path, shots, monkeypatch, failure):
    segment = Geometric.segment

    def failing(self, views):
        if any(np.array_equal(view.image, shots[1][0]) for view in views):
            raise failure
        return segment(self, views)

    monkeypatch.setattr(Geometric, "segment", failing)
    commits = run(Segmentation("geometric"), extracted(tmp_path, shots))
    assert commits[1].error == f"Frame 1 could not be segmented: {failure}."
    assert commits[1].records == []
    others = [0, 2, 3, 4]
    assert [commits[at].records for at in others] == [done[1][at].records for at in others]


def test_masks_that_cannot_be_encoded_lose_that_frame_only(done, tmp_path, shots, monkeypatch):
    encode, failures = rle.encode, [cv2.error("bad size")]

    def failing(mask):
        if failures:
            raise failures.pop()
        return encode(mask)

    monkeypatch.setattr(rle, "encode", failing)
    commits = run(Segmentation("geometric"), extracted(tmp_path, shots))
    assert (commits[0].records, commits[0].error) == ([], "The masks of frame 0 cannot be written: bad size.")
    assert [commit.records for commit in commits[1:]] == [commit.records for commit in done[1][1:]]


def test_agreement_with_the_mirrored_image_is_told_on_request(done, tmp_path, shots):
    context = extracted(tmp_path, shots)
    run(Segmentation("geometric", flip_agreement=True), context)
    records, plain = list(read_detections(context.layout)), list(read_detections(done[0].layout))
    assert [replace(each, agreement=None) for each in records] == plain
    assert all(each.agreement is None for each in plain)
    assert np.median([each.agreement for each in records]) > 0.9


def test_a_segmenters_own_features_are_kept_for_the_class_head(tmp_path, shots, monkeypatch):
    segment = Geometric.segment

    def with_features(self, views):
        return [
            [replace(each, features=np.array([each.class_id, 0.1], np.float32)) for each in found]
            for found in segment(self, views)
        ]

    monkeypatch.setattr(Geometric, "segment", with_features)
    context = extracted(tmp_path, shots)
    run(Segmentation("geometric"), context)
    records = list(read_detections(context.layout))
    kind = segmenter_kind("geometric")
    found = sequence_features(context.layout, records, kind)
    assert found == pytest.approx(np.array([[each.class_id, 0.1] for each in records]), abs=1e-3)
    head = ClassHead.fit(found, [each.class_id for each in records], CLASSES, feature_kind=kind)
    head.save(tmp_path / "head.npz")
    again = replace(extracted(tmp_path / "again", shots), class_head=tmp_path / "head.npz")
    run(Segmentation("geometric"), again)
    named = {str(each.rle): each.class_id for each in read_detections(again.layout)}
    same = [named[str(each.rle)] == each.class_id for each in records if str(each.rle) in named]
    assert len(same) >= 0.8 * len(records)
    assert all(same)


@pytest.fixture(scope="module")
def taught(done, tmp_path_factory):
    """A class head that learned from the labels of one run to call crates carts and carts crates."""
    layout, swapped = done[0].layout, {3: 4, 4: 3}
    records = list(read_detections(layout))
    path = tmp_path_factory.mktemp("head") / "head.npz"
    labels = [swapped.get(each.class_id, each.class_id) for each in records]
    ClassHead.fit(sequence_features(layout, records, DESCRIPTOR), labels, CLASSES, feature_kind=DESCRIPTOR).save(path)
    return path


def test_the_class_head_gives_instances_their_names(done, taught, tmp_path, shots):
    context = replace(extracted(tmp_path, shots), class_head=taught)
    run(Segmentation("geometric", confidence_threshold=0.3), context)
    before = {(each.number, str(each.rle)): each.class_name for each in read_detections(done[0].layout)}
    after = {(each.number, str(each.rle)): each.class_name for each in read_detections(context.layout)}
    other = {"crate": "cart", "cart": "crate"}
    both = before.keys() & after.keys()
    assert len(both) >= 0.8 * len(before)
    right = [after[key] == other.get(before[key], before[key]) for key in both]
    assert np.mean(right) > 0.9
    assert {"crate", "cart"} <= {after[key] for key in both}


def test_a_cut_off_run_with_a_class_head_ends_with_the_same_bytes(taught, tmp_path, shots):
    whole = replace(extracted(tmp_path / "whole", shots), class_head=taught)
    run(Segmentation("geometric"), whole)
    context = replace(extracted(tmp_path / "cut", shots), class_head=taught)
    commits = run_stage(Segmentation("geometric", batch_size=1), context)
    next(commits)
    commits.close()
    run(Segmentation("geometric", batch_size=3), context)
    assert outputs(context) == outputs(whole)


def test_a_class_of_unknown_size_is_found_once_it_has_labels(done, tmp_path, shots):
    """Without a size the segmenter itself can never name it."""
    classes = tuple(replace(each, name="box", typical_size_hwl=None) if each.id == 3 else each for each in CLASSES)
    before = replace(extracted(tmp_path / "before", shots), classes=classes)
    run(Segmentation("geometric"), before)
    assert not any(each.class_id == 3 for each in read_detections(before.layout))
    layout = done[0].layout
    records = list(read_detections(layout))
    head = ClassHead.fit(
        sequence_features(layout, records, DESCRIPTOR),
        [each.class_id for each in records],
        classes,
        feature_kind=DESCRIPTOR,
    )
    head.save(tmp_path / "head.npz")
    after = replace(extracted(tmp_path / "after", shots), classes=classes, class_head=tmp_path / "head.npz")
    run(Segmentation("geometric"), after)
    expected = {(each.number, str(each.rle)) for each in records if each.class_id == 3}
    found = {(each.number, str(each.rle)) for each in read_detections(after.layout) if each.class_id == 3}
    assert expected
    assert len(expected & found) >= 0.7 * len(expected)


def test_a_class_head_that_cannot_be_used_stops_before_the_first_frame(tmp_path, shots):
    context = extracted(tmp_path, shots)
    with pytest.raises(ClassHeadError, match=r"head\.npz is not there"):
        run(Segmentation("geometric"), replace(context, class_head=tmp_path / "head.npz"))
    others = (ClassSpec(11, "lamp"), ClassSpec(12, "post"))
    head = ClassHead.fit(np.zeros((2, 5), np.float32), [11, 12], others, feature_kind=DESCRIPTOR)
    head.save(tmp_path / "head.npz")
    with pytest.raises(ClassHeadError, match="knows other classes than this job has: lamp, post"):
        run(Segmentation("geometric"), replace(context, class_head=tmp_path / "head.npz"))
    kinds = {segmenter_kind("sam2"): "kind segmenter:sam2/1", DESCRIPTOR: "does not belong", "x/9": "not known"}
    for kind, said in kinds.items():
        ClassHead.fit(np.zeros((2, 5), np.float32), [1, 2], CLASSES, feature_kind=kind).save(tmp_path / "head.npz")
        with pytest.raises(ClassHeadError, match=said):
            run(Segmentation("geometric"), replace(context, class_head=tmp_path / "head.npz"))
    assert not context.layout.masks.exists()
