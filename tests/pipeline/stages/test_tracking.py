import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry.kitti import read_labels
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.base import StageContext
from pipeline.stages.run import journal_path, run_stage
from pipeline.stages.tracking import Tracking
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord
from pipeline.storage.sequence import read_tracks
from training.formats.from_sequence import read_export_frames

FRAMES = 12
CAMERA = RectifiedCamera(1280, 720, 700.0, 700.0, 640.0, 360.0, baseline=0.12, metric=True)
CLASSES = [ClassSpec(1, "person", typical_size_hwl=(1.75, 0.6, 0.6)), ClassSpec(2, "car")]


def detection(number: int, instance: int, x: float, class_id: int = 1, confidence: float = 0.9) -> DetectionRecord:
    names = {1: "person", 2: "car"}
    return DetectionRecord(
        number,
        instance,
        class_id,
        names[class_id],
        confidence,
        [x, 50.0, 40.0, 80.0],
        3200,
        {"size": [1, 1], "counts": "0"},
    )


def place(number: int, instance: int, x: float) -> BoxRecord:
    return BoxRecord(number, instance, [x, 1.6, 8.0], [1.75, 0.6, 0.6], 0.0, 0.0, points_used=100, score=0.9)


def scene() -> Iterator[tuple[list[DetectionRecord], list[BoxRecord]]]:
    """Frame by frame: a person who walks (once taken for a car, once without depth), a flash, a doubtful one."""
    for number in range(FRAMES):
        walker = detection(number, 0, 100 + 6 * number, class_id=2 if number == 4 else 1)
        found = [walker]
        boxes = [BoxRecord(number, 0, reason="no depth") if number == 6 else place(number, 0, 0.1 * number)]
        if number == 5:
            found.append(detection(number, 1, 600))
            boxes.append(place(number, 1, 5))
        if number >= 8:
            found.append(detection(number, 1, 400, class_id=2))
            boxes.append(BoxRecord(number, 1, reason="too far"))
        if number == 9:
            found, boxes = [], []
        if number == 10:
            found.append(detection(number, 2, 800, confidence=0.55))
            boxes.append(BoxRecord(number, 2, reason="too far"))
        yield found, boxes


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    layout = SequenceLayout(tmp_path / "sequence")
    stages = ("extraction", "segmentation", "reconstruction")
    journals = {name: Journal(journal_path(layout, name)) for name in stages}
    for number, (found, boxes) in enumerate(scene()):
        frame = FrameRecord(number, number, number * 33_000_000, 1280, 720, "0" * 16, 1.0)
        journals["extraction"].append(Commit(number + 1, [frame.to_json()]))
        journals["segmentation"].append(Commit(number + 1, [one.to_json() for one in found]))
        journals["reconstruction"].append(Commit(number + 1, [one.to_json() for one in boxes]))
    for journal in journals.values():
        journal.close()
    write_json(layout.calibration, CAMERA.to_json())
    return StageContext(layout, tmp_path / "recording.svo2", CLASSES)


def outputs(layout: SequenceLayout) -> list[Path]:
    return [layout.tracks, *(layout.label(number) for number in range(FRAMES))]


def ids(context: StageContext) -> dict[tuple[int, int], int | None]:
    return {(track.number, track.instance): track.track_id for track in read_tracks(context.layout)}


def test_every_detection_gets_a_record_and_every_object_one_id(context):
    commits = list(run_stage(Tracking(), context))
    assert [(commit.cursor, total) for commit, total in commits] == [(number + 1, FRAMES) for number in range(FRAMES)]
    expected = {(number, 0): 1 for number in range(FRAMES) if number != 9}
    expected |= {(5, 1): None}  # seen in a single frame
    expected |= {(8, 1): None, (10, 1): 2, (11, 1): 2}  # the frame after its first sight has no detections at all
    expected |= {(10, 2): None}  # too doubtful to start a track
    assert ids(context) == expected


def test_a_track_has_its_id_from_the_first_frame_on(context):
    commits = Tracking().run(context, 0, {})
    (first,) = next(commits).records
    assert (first["number"], first["instance"], first["track_id"]) == (0, 0, 1)


def test_tracks_json_tells_each_track_once(context):
    for _ in run_stage(Tracking(), context):
        pass
    value = json.loads(context.layout.tracks.read_text())
    assert value["version"] == 1
    walker, parked = value["tracks"]
    seen = walker.pop("detections")
    assert walker == {
        "track_id": 1, "class_id": 1, "class_name": "person", "first_frame": 0, "last_frame": 11, "length": 11,
    }  # fmt: skip
    assert [entry["frame"] for entry in seen] == [*range(9), 10, 11]
    assert [entry["frame"] for entry in seen if entry["class_name"] == "car"] == [4]
    assert (seen[1].pop("location"), seen[1].pop("rotation_y")) == (pytest.approx([0.1, 1.6, 8.0], abs=0.1), 0.0)
    assert seen[1] == {
        "frame": 1, "instance": 0, "class_id": 1, "class_name": "person", "confidence": 0.9,
        "bbox": [106.0, 50.0, 40.0, 80.0], "dimensions_hwl": [1.75, 0.6, 0.6],
    }  # fmt: skip
    assert (parked["track_id"], parked["class_name"], parked["length"]) == (2, "car", 2)
    assert (parked["first_frame"], parked["last_frame"]) == (10, 11)


def test_a_box_is_refined_over_its_track_and_the_frame_without_one_gets_its_own(context):
    for _ in run_stage(Tracking(), context):
        pass
    of_walker = [record for record in read_tracks(context.layout) if record.track_id == 1]
    assert all(record.box is not None and record.sigma is not None for record in of_walker)
    assert {tuple(record.box[3:6]) for record in of_walker} == {(1.75, 0.6, 0.6)}
    assert [record.box[0] for record in of_walker] == pytest.approx([0.1 * one.number for one in of_walker], abs=0.1)
    assert {(record.truncated, record.occluded) for record in of_walker} == {(0.0, 0)}
    others = [record for record in read_tracks(context.layout) if record.track_id != 1]
    assert all(record.box is None for record in others)


def test_the_labels_and_the_export_carry_the_refined_boxes(context):
    for _ in run_stage(Tracking(), context):
        pass
    records = {record.number: record for record in read_tracks(context.layout) if record.track_id == 1}
    exported = {frame.number: frame.annotations for frame in read_export_frames(context.layout)}
    for number, record in records.items():
        label = read_labels(context.layout.label(number))[record.instance]
        assert label.box == pytest.approx(record.box, abs=0.006)
        assert label.alpha == pytest.approx(
            label.rotation_y - np.arctan2(label.location[0], label.location[2]), abs=0.02
        )
        box = exported[number][record.instance].box
        assert [*box.location, *box.dimensions_hwl, box.rotation_y] == record.box


@pytest.mark.parametrize("done", range(FRAMES))
def test_resumed_after_any_frame_it_leaves_the_same_records_and_bytes(context, done):
    undisturbed = [commit.records for commit in Tracking().run(context, 0, {})]
    for _ in run_stage(Tracking(), context):
        pass
    expected = [path.read_bytes() for path in outputs(context.layout)]
    journal_path(context.layout, "tracking").unlink()
    (context.layout.journals / "tracking.done").unlink()
    context.layout.tracks.unlink()

    started = run_stage(Tracking(), context)
    before = [commit.records for commit, _ in islice(started, done)]
    started.close()
    assert not context.layout.tracks.exists()
    after = [commit.records for commit, _ in run_stage(Tracking(), context)]
    assert before + after == undisturbed
    assert [path.read_bytes() for path in outputs(context.layout)] == expected


def test_a_sequence_without_detections_has_no_tracks(tmp_path):
    layout = SequenceLayout(tmp_path)
    with Journal(journal_path(layout, "extraction")) as journal:
        journal.append(Commit(1, [FrameRecord(0, 0, 0, 64, 36, "0" * 16, 1.0).to_json()]))
    commits = list(run_stage(Tracking(), StageContext(layout, tmp_path)))
    assert [commit.records for commit, _ in commits] == [[]]
    assert json.loads(layout.tracks.read_text()) == {"version": 1, "tracks": []}


def test_a_frame_whose_boxes_are_missing_is_tracked_in_the_image(context):
    path = journal_path(context.layout, "reconstruction")
    lines = path.read_text().splitlines(keepends=True)
    failed = Commit(4, error="depth/000003.npy cannot be read").line()
    path.write_text("".join([*lines[:3], failed, *lines[4:]]))
    for _ in run_stage(Tracking(), context):
        pass
    assert ids(context)[(3, 0)] == 1


@pytest.mark.parametrize(("threshold", "tracked"), [(0.5, None), (0.2, 2), (0.4, 2)])
def test_the_threshold_to_start_a_track_follows_the_jobs(context, threshold, tracked):
    # At 0.5 a track starts from 0.6 on, at 0.4 from 0.52.
    path = journal_path(context.layout, "segmentation")
    lines = path.read_text().splitlines(keepends=True)
    for number in (1, 2, 3):
        seen = [detection(number, 0, 100 + 6 * number), detection(number, 1, 900, confidence=0.55)]
        lines[number] = Commit(number + 1, [one.to_json() for one in seen]).line()
    path.write_text("".join(lines))
    for _ in run_stage(Tracking(confidence_threshold=threshold), context):
        pass
    assert [ids(context)[(number, 1)] for number in (1, 2, 3)] == [tracked] * 3
