import numpy as np
import pytest

from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.atomic import write_json, write_npy
from pipeline.storage.journal import Commit, Journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.records import BoxRecord, FrameRecord, TrackRecord
from pipeline.storage.sequence import (
    SequenceFileError,
    load_depth,
    load_image,
    read_boxes,
    read_camera,
    read_detections,
    read_frames,
    read_tracks,
)

CAMERA = RectifiedCamera(320, 240, 260.0, 260.0, 160.0, 120.0, baseline=0.12, metric=True, source="SN1.conf")


@pytest.fixture
def layout(tmp_path) -> SequenceLayout:
    return SequenceLayout(tmp_path)


def test_the_camera_is_read_as_it_was_written(layout):
    write_json(layout.calibration, CAMERA.to_json())
    assert read_camera(layout) == CAMERA


@pytest.mark.parametrize("content", [None, "", "[]", '{"width": 3}'])
def test_a_missing_or_damaged_camera_is_named(layout, content):
    layout.calibration.parent.mkdir()
    if content is not None:
        layout.calibration.write_text(content)
    with pytest.raises(SequenceFileError, match=r"calibration\.json"):
        read_camera(layout)


def test_a_sequence_nobody_has_worked_on_is_empty(layout):
    for read in (read_frames, read_detections, read_boxes, read_tracks):
        assert list(read(layout)) == []


def test_records_come_back_from_the_journals_in_order(layout):
    frames = [FrameRecord(n, 2 * n, n, 320, 240, "0" * 16, 0.5, gravity=[0.0, 1.0, 0.0]) for n in range(3)]
    boxes = [BoxRecord(0, 0, [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 0.1, 0.2), BoxRecord(0, 1, reason="none")]
    with Journal(layout.journals / "extraction.jsonl") as journal:
        for frame in frames:
            journal.append(Commit(frame.number + 1, [frame.to_json()]))
    with Journal(layout.journals / "reconstruction.jsonl") as journal:
        journal.append(Commit(1, [box.to_json() for box in boxes]))
    with Journal(layout.journals / "tracking.jsonl") as journal:
        journal.append(Commit(1, [TrackRecord(0, 0, 7).to_json(), TrackRecord(0, 1, None).to_json()]))
    assert list(read_frames(layout)) == frames
    assert list(read_boxes(layout)) == boxes
    assert [track.track_id for track in read_tracks(layout)] == [7, None]


def test_depth_is_mapped_not_loaded_and_may_be_absent(layout):
    depth = np.full((4, 5), np.nan, np.float32)
    write_npy(layout.depth(3), depth)
    loaded = load_depth(layout, 3)
    assert isinstance(loaded, np.memmap)
    assert np.array_equal(loaded, depth, equal_nan=True)
    assert load_depth(layout, 4) is None


def test_depth_files_that_are_damaged_pickled_or_of_another_kind_are_refused_by_name(layout):
    write_npy(layout.depth(0), np.zeros((2, 2), np.float64))
    layout.depth(1).write_bytes(b"")
    np.save(layout.depth(2), np.array([{}], dtype=object), allow_pickle=True)
    for number in range(3):
        with pytest.raises(SequenceFileError, match=rf"depth/00000{number}\.npy"):
            load_depth(layout, number)


def test_an_image_that_cannot_be_read_is_named(layout):
    frame = FrameRecord(1, 1, 1, 4, 4, "0" * 16, 0.0)
    with pytest.raises(SequenceFileError, match=r"image_right/000001\.png"):
        load_image(layout, frame, "right")
