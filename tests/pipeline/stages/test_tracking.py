import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from pipeline.stages.base import StageContext
from pipeline.stages.run import journal_path, run_stage
from pipeline.stages.tracking import Tracking
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, DetectionRecord, FrameRecord, TrackRecord
from pipeline.storage.sequence import read_tracks

FRAMES = 12


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
    return StageContext(layout, tmp_path / "recording.svo2")


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
    first, *_ = commits
    assert first.records == [TrackRecord(0, 0, 1).to_json()]


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
    assert seen[1] == {
        "frame": 1, "instance": 0, "class_id": 1, "class_name": "person", "confidence": 0.9,
        "bbox": [106.0, 50.0, 40.0, 80.0], "location": [0.1, 1.6, 8.0], "dimensions_hwl": [1.75, 0.6, 0.6],
        "rotation_y": 0.0,
    }  # fmt: skip
    assert [entry["frame"] for entry in seen if entry["location"] is None] == [6]
    assert (parked["track_id"], parked["class_name"], parked["length"]) == (2, "car", 2)
    assert (parked["first_frame"], parked["last_frame"]) == (10, 11)


@pytest.mark.parametrize("done", range(FRAMES))
def test_resumed_after_any_frame_it_leaves_the_same_records_and_bytes(context, done):
    undisturbed = [commit.records for commit in Tracking().run(context, 0, {})]
    for _ in run_stage(Tracking(), context):
        pass
    expected = context.layout.tracks.read_bytes()
    journal_path(context.layout, "tracking").unlink()
    (context.layout.journals / "tracking.done").unlink()
    context.layout.tracks.unlink()

    started = run_stage(Tracking(), context)
    before = [commit.records for commit, _ in islice(started, done)]
    started.close()
    assert not context.layout.tracks.exists()
    after = [commit.records for commit, _ in run_stage(Tracking(), context)]
    assert before + after == undisturbed
    assert context.layout.tracks.read_bytes() == expected


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
