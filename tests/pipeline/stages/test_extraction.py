import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import CalibrationError, DepthUnavailableError, Stopped
from pipeline.geometry.kitti import KittiCalibration, read_velodyne
from pipeline.recordings.base import StereoFrame
from pipeline.recordings.stereo_images import StereoImagesRecording
from pipeline.stages.base import StageContext
from pipeline.stages.extraction import Extraction, _Views
from pipeline.stages.run import journal_path, run_stage
from pipeline.stereo.calibration_files import read_calibration, write_json
from pipeline.stereo.camera import RectifiedCamera
from pipeline.storage.journal import read_journal
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.sequence import (
    SequenceFileError,
    load_confidence,
    load_depth,
    load_image,
    read_camera,
    read_frames,
)
from tests.pipeline.stereo.stereo_networks import write_network


def context_for(recording: Path, root: Path, **changes) -> StageContext:
    return StageContext(layout=SequenceLayout(root), recording=recording, **changes)


def extract(recording: Path, root: Path, stage: Extraction | None = None, **changes):
    context = context_for(recording, root, **changes)
    return [commit for commit, _ in run_stage(stage or Extraction(), context)], context.layout


class LosingFrames(StereoImagesRecording):
    """Counts all its frames and, like a damaged video, cannot decode two of them; a third comes in another size."""

    def frames(self, indices=None):
        for frame in super().frames(indices):
            if frame.index == 3:
                yield replace(frame, left=frame.left[:-2])
            elif frame.index not in (1, 4):
                yield frame


def contents(root: Path) -> dict[str, bytes]:
    """Every file but the journal, whose lines tell how long things took."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".journal" not in path.parts
    }


@pytest.fixture(scope="module")
def stereo_folder(data_folder, tmp_path_factory) -> Path:
    """Five calibrated pairs of a third of KITTI's size."""
    folder = tmp_path_factory.mktemp("kitti")
    source = data_folder / "kitti_vo00"
    for path in sorted(source.glob("image_?/*.png")):
        target = folder / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(target), cv2.resize(cv2.imread(str(path)), (414, 126), interpolation=cv2.INTER_AREA))
    height, width = cv2.imread(str(source / "image_2" / "000000.png")).shape[:2]
    whole = read_calibration(source / "calib.txt", width, height)
    write_json(whole, folder / "calibration.json")
    return folder


@pytest.fixture
def stereo(stereo_folder, tmp_path) -> Path:
    return Path(shutil.copytree(stereo_folder, tmp_path / "recording"))


def test_a_real_zed_recording_yields_depth_for_every_frame_and_every_inertial_row(data_folder, tmp_path):
    commits, layout = extract(data_folder / "svo2_zed2i" / "test.svo2", tmp_path, Extraction(frame_skip=3))
    assert [commit.cursor for commit in commits] == [1, 2, 3, 4]
    frames = list(read_frames(layout))
    assert [frame.source_index for frame in frames] == [0, 3, 6, 9]
    assert len(layout.imu.read_text().splitlines()) == 1 + 1433
    camera = read_camera(layout)
    assert camera.metric
    assert camera.baseline == pytest.approx(0.12, abs=0.001)
    for frame in frames:
        depth = load_depth(layout, frame.number)
        assert (depth.dtype, depth.shape) == (np.float32, (720, 1280))
        assert 0.3 < frame.depth_coverage < 1
        assert np.isfinite(depth).mean() == pytest.approx(frame.depth_coverage, abs=1e-5)
        confidence = load_confidence(layout, frame.number)
        assert (confidence.dtype, confidence.shape) == (np.float32, (720, 1280))
        assert np.array_equal(confidence > 0, np.isfinite(depth)), "zero says that there is no depth, and only that"
        assert 0.7 < np.median(confidence[confidence > 0]) < 1
        assert load_image(layout, frame).shape == load_image(layout, frame, "right").shape == (720, 1280, 3)
        # The camera looks down by some 26 degrees.
        assert frame.gravity == pytest.approx([0.016, 0.895, 0.446], abs=0.01)
        cloud = read_velodyne(layout.velodyne(frame.number))
        assert 30_000 < len(cloud) <= 132_000
        pixels = KittiCalibration.read(layout.calib(frame.number)).project(
            KittiCalibration.read(layout.calib(frame.number)).velodyne_to_rectified(cloud[::500, :3])
        )
        assert pixels == pytest.approx(np.rint(pixels), abs=0.01)
        columns, rows = np.rint(pixels).astype(int).T
        assert depth[rows, columns] == pytest.approx(cloud[::500, 0], rel=1e-5)


@pytest.mark.parametrize("stage", [Extraction(), Extraction(enable_diversity_filter=True, motion_threshold=0.05)])
def test_a_run_cut_after_any_frame_and_resumed_leaves_the_same_bytes(stereo, tmp_path, stage):
    extract(stereo, tmp_path / "whole", stage)
    expected = contents(tmp_path / "whole")
    assert "frame_registry.json" in expected
    for cut in range(1, 5):
        root = tmp_path / f"cut{cut}"
        context = context_for(stereo, root)
        done = iter(range(100))
        with pytest.raises(Stopped):
            for _ in run_stage(stage, context, should_stop=lambda cut=cut, done=done: next(done) >= cut):
                pass
        assert not context.layout.registry.exists()
        extract(stereo, root, stage)
        assert contents(root) == expected


def test_one_worker_and_four_leave_the_same_bytes(stereo, tmp_path):
    for workers in (1, 4):
        extract(stereo, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_depth_that_the_reader_supplies_has_no_confidence_of_ours(stereo, tmp_path, monkeypatch):
    class WithDepth(StereoImagesRecording):
        def frames(self, indices=None):
            for frame in super().frames(indices):
                yield replace(frame, depth=np.full(frame.left.shape[:2], 5, np.float32))

    monkeypatch.setattr("pipeline.stages.extraction.open_recording", WithDepth)
    _, layout = extract(stereo, tmp_path / "out")
    assert load_depth(layout, 0).max() == 5
    assert load_confidence(layout, 0) is None

    _, layout = extract(stereo, tmp_path / "matched", Extraction(depth_method="sgbm"))
    assert np.nanmax(load_depth(layout, 0)) > 20, "whoever asks for matching gets it, whatever the reader has"
    assert load_confidence(layout, 0).max() > 0.9


def test_a_stereo_network_measures_depth_and_the_registry_names_it(stereo, tmp_path):
    network = write_network(tmp_path / "stereo_small.onnx", sharpness=3.0)
    stage = Extraction(depth_method="neural")
    for workers in (1, 3):
        extract(stereo, tmp_path / str(workers), stage, workers=workers, models_folders=[tmp_path])
    assert contents(tmp_path / "1") == contents(tmp_path / "3")

    layout = SequenceLayout(tmp_path / "1")
    depth, confidence = load_depth(layout, 2), load_confidence(layout, 2)
    assert np.isfinite(depth).mean() > 0.3
    assert np.array_equal(confidence > 0, np.isfinite(depth))
    extract(stereo, tmp_path / "sgbm")
    matched = load_depth(SequenceLayout(tmp_path / "sgbm"), 2)
    certain = (confidence > 0.9) & np.isfinite(matched)
    assert np.median(np.abs(depth / matched - 1)[certain]) < 0.05

    told = json.loads(layout.registry.read_text())["depth"]
    sha256 = hashlib.sha256(network.read_bytes()).hexdigest()
    assert told == {"method": "neural", "model": "stereo_small.onnx", "sha256": sha256}


def test_a_network_that_is_gone_stops_the_stage_before_anything_is_written(stereo, tmp_path):
    with pytest.raises(DepthUnavailableError, match="FOVEA_MODELS_DIR"):
        extract(stereo, tmp_path / "out", Extraction(depth_method="neural"), models_folders=[tmp_path])
    assert not (tmp_path / "out" / "image_left").exists()


def test_a_damaged_confidence_file_is_named(stereo, tmp_path):
    _, layout = extract(stereo, tmp_path / "out")
    layout.confidence(2).write_bytes(layout.confidence(2).read_bytes()[:40])
    with pytest.raises(SequenceFileError, match=r"confidence/000002\.png"):
        load_confidence(layout, 2)


def test_the_diversity_filter_drops_frames_and_numbers_the_rest_without_gaps(stereo, tmp_path):
    for path in stereo.glob("image_?/000002.png"):
        shutil.copy(path.with_name("000001.png"), path)
    stage = Extraction(enable_diversity_filter=True, similarity_threshold=0, motion_threshold=0.001)
    commits, layout = extract(stereo, tmp_path / "out", stage)
    assert [len(commit.records) for commit in commits] == [1, 1, 0, 1, 1]
    frames = list(read_frames(layout))
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert [frame.source_index for frame in frames] == [0, 1, 3, 4]
    assert not layout.image_left(4).exists()


def test_the_registry_tells_the_frames_without_the_journal(stereo, tmp_path):
    _, layout = extract(stereo, tmp_path)
    frames = list(read_frames(layout))
    assert json.loads(layout.registry.read_text())["frame_count"] == 5
    shutil.rmtree(layout.journals)
    assert list(read_frames(layout)) == frames


def test_a_frame_that_cannot_be_used_is_told_and_the_rest_goes_on(stereo, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.stages.extraction.open_recording", LosingFrames)
    commits, layout = extract(stereo, tmp_path / "out")
    assert [commit.cursor for commit in commits] == [1, 2, 3, 4, 5]
    assert [commit.error for commit in commits] == [
        "",
        "Frame 1 could not be decoded.",
        "",
        "Frame 3: The image is 414×124, the calibration is for 414×126.",
        "Frame 4 could not be decoded.",
    ]
    assert [(frame.number, frame.source_index) for frame in read_frames(layout)] == [(0, 0), (1, 2)]
    assert [entry["input"] for entry in json.loads(layout.registry.read_text())["failed"]] == [1, 3, 4]


def test_without_calibration_both_eyes_are_stored_as_they_are_and_nothing_is_metric(stereo, tmp_path):
    (stereo / "calibration.json").unlink()
    _, layout = extract(stereo, tmp_path / "out")
    frames = list(read_frames(layout))
    assert len(frames) == 5
    assert all(frame.has_right and not frame.has_depth for frame in frames)
    camera = read_camera(layout)
    assert not camera.metric
    assert camera.baseline is None
    assert load_depth(layout, 0) is None
    assert load_confidence(layout, 0) is None
    assert not (layout.root / "velodyne").exists()
    assert np.array_equal(load_image(layout, frames[0]), cv2.imread(str(stereo / "image_2" / "000000.png")))


def test_one_eye_gives_images_only(stereo, tmp_path):
    _, layout = extract(stereo / "image_2", tmp_path / "out", Extraction(image_format="jpeg"))
    frames = list(read_frames(layout))
    assert len(frames) == 5
    assert not any(frame.has_right or frame.has_depth for frame in frames)
    assert layout.image_left(0, "jpg").read_bytes()[:2] == b"\xff\xd8"
    assert not (layout.root / "image_right").exists()


def test_point_clouds_can_be_left_out(stereo, tmp_path):
    _, layout = extract(stereo, tmp_path / "out", Extraction(write_point_clouds=False))
    assert layout.depth(4).exists()
    assert not (layout.root / "velodyne").exists()


def test_every_commit_carries_the_state_to_go_on_from(stereo, tmp_path):
    extract(stereo, tmp_path / "out")
    states = [commit.state for commit in read_journal(journal_path(SequenceLayout(tmp_path / "out"), "extraction"))]
    assert [state["kept"] for state in states] == [1, 2, 3, 4, 5]
    assert len({json.dumps(state["filter"]) for state in states}) == 5


def test_a_rig_the_wrong_way_round_is_refused_before_anything_is_written(stereo, tmp_path):
    document = json.loads((stereo / "calibration.json").read_text())
    document["translation"] = [0.54, 0.0, 0.0]
    (stereo / "calibration.json").write_text(json.dumps(document))
    with pytest.raises(CalibrationError):
        extract(stereo, tmp_path / "out")
    assert not (tmp_path / "out" / "image_left").exists()


def test_a_frame_whose_eyes_differ_in_size_is_counted_as_bad():
    views = _Views(RectifiedCamera(8, 6, 6.0, 6.0, 3.5, 2.5, None, metric=False), stereo=True)
    left, right = np.zeros((6, 8, 3), np.uint8), np.zeros((6, 0, 3), np.uint8)
    assert "differ in size" in views.prepare(StereoFrame(3, 0, left, right)).error
    assert views.prepare(StereoFrame(3, 0, left, left)).error == ""
