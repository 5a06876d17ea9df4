"""The matrix: each segmenter on each kind of recording either goes through all stages or says at once why it cannot."""

import json
from contextlib import closing
from dataclasses import replace
from itertools import islice

import av
import cv2
import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.recordings import open_recording
from pipeline.segmentation import registry
from pipeline.simulation.recording import CLASSES
from pipeline.stages.base import StageContext
from pipeline.stages.building import build_stages
from pipeline.stages.plan import PipelineConfig
from pipeline.stages.run import run_stage
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.sequence import read_detections
from tests.pipeline.segmentation.tiny_sam import save_sam2, save_sam3

FRAMES = 3  # of eight in the SVO2, every third
KINDS = ("svo2", "stereo_video", "stereo_images", "video", "images")
QUICK = {("sam2", "svo2"), ("sam3", "video")}
WITH_METRES = {"svo2", "stereo_video", "stereo_images"}


@pytest.fixture(scope="module")
def filmed(street):
    """The first frames of the street, as recorded."""
    with open_recording(street.recording, calibration_folders=[street.recording.parent]) as recording:
        return list(recording.frames(range(FRAMES)))


@pytest.fixture(scope="module")
def recordings(street, filmed, tmp_path_factory):
    """The same frames as every kind of recording there is."""
    root = tmp_path_factory.mktemp("kinds")
    write_video(root / "street_stereo.mp4", [np.hstack([frame.left, frame.right]) for frame in filmed])
    write_video(root / "street.mp4", [frame.left for frame in filmed])
    for frame in filmed:
        write_image(root / "pairs" / "left" / f"{frame.index}.png", frame.left)
        write_image(root / "pairs" / "right" / f"{frame.index}.png", frame.right)
        write_image(root / "photos" / f"{frame.index}.png", frame.left)
    return {
        "svo2": street.recording,
        "stereo_video": root / "street_stereo.mp4",
        "stereo_images": root / "pairs",
        "video": root / "street.mp4",
        "images": root / "photos",
    }


def write_image(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_video(path, images):
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 20_000_000
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("segmenter", ["geometric", "deeplab"])
def test_a_segmenter_goes_through_all_stages_or_says_at_once_why_it_cannot(
    segmenter, kind, recordings, street, models_folder, tmp_path
):
    recording, calibration = recordings[kind], street.calibration if kind in WITH_METRES else None
    with open_recording(recording, calibration_file=calibration) as opened:
        assert opened.metadata.kind == kind
        metric = opened.metadata.stereo and opened.calibration is not None
    assert metric == (kind in WITH_METRES)
    if segmenter == "geometric" and not metric:
        with pytest.raises(SegmenterUnavailableError, match=r"needs a stereo recording and its calibration"):
            registry.choose(segmenter, metric_stereo=metric, classes=CLASSES, models_folders=[models_folder])
        return
    skip = 3 if kind == "svo2" else 1
    config = PipelineConfig(segmenter=segmenter, confidence_threshold=0.3, frame_skip=skip)
    chosen = registry.choose(segmenter, metric_stereo=metric, classes=CLASSES, models_folders=[models_folder])
    context = StageContext(
        SequenceLayout(tmp_path), recording, CLASSES, calibration_file=calibration, models_folders=[models_folder]
    )
    for stage in build_stages(config, chosen).values():
        assert [commit.error for commit, _ in run_stage(stage, context)] == [""] * FRAMES
    check_outputs(context, metric=metric)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    return save_sam3(torch, save_sam2(torch, tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize(
    ("segmenter", "kind"),
    [
        pytest.param(segmenter, kind, marks=() if (segmenter, kind) in QUICK else pytest.mark.slow)
        for segmenter in ("sam2", "sam3")
        for kind in KINDS
    ],
)
def test_a_network_with_random_weights_goes_through_all_stages(
    segmenter, kind, recordings, street, sam_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "no")
    calibration = street.calibration if kind in WITH_METRES else None
    classes = [replace(CLASSES[0], text_prompt="a red truck")]
    metric = kind in WITH_METRES
    chosen = registry.choose(segmenter, metric_stereo=metric, classes=classes, models_folders=[sam_folder])
    skip = 3 if kind == "svo2" else 1
    config = PipelineConfig(segmenter=segmenter, confidence_threshold=0.1, frame_skip=skip)
    context = StageContext(
        SequenceLayout(tmp_path), recordings[kind], classes, calibration_file=calibration, models_folders=[sam_folder]
    )
    for stage in build_stages(config, chosen).values():
        assert [commit.error for commit, _ in run_stage(stage, context)] == [""] * FRAMES
    assert list(read_detections(context.layout))
    check_outputs(context, metric=metric)


@pytest.mark.slow
def test_sam2_that_was_stopped_goes_on_to_the_same_bytes(recordings, sam_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "no")
    stages = build_stages(PipelineConfig(segmenter="sam2", confidence_threshold=0.1), "sam2")
    trees = []
    for name, stop in (("whole", FRAMES), ("stopped", 1)):
        context = StageContext(
            SequenceLayout(tmp_path / name), recordings["images"], CLASSES[:1], models_folders=[sam_folder]
        )
        for _ in run_stage(stages["extraction"], context):
            pass
        with closing(run_stage(stages["segmentation"], context)) as steps:
            assert len(list(islice(steps, stop))) == stop
        for _ in run_stage(stages["segmentation"], context):
            pass
        folder = context.layout.detections.parent
        trees.append({str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()})
    assert len(trees[0]) > FRAMES
    assert trees[0] == trees[1]


def check_outputs(context, *, metric):
    layout = context.layout
    names = {each.name for each in context.classes}
    detections = list(read_detections(layout))
    for number in range(FRAMES):
        height, width = cv2.imread(str(layout.image_left(number))).shape[:2]
        seen = [each for each in detections if each.number == number]
        lines = layout.label(number).read_text().splitlines()
        assert len(lines) == len(seen)
        assert all(line.split()[0] in names for line in lines)
        for each in seen:
            mask = cv2.imread(str(layout.mask(number, each.instance)), cv2.IMREAD_GRAYSCALE)
            assert mask.shape == (height, width)
            assert np.count_nonzero(mask) == each.area > 0
        assert layout.depth(number).exists() == metric
    assert json.loads(layout.tracks.read_text())["version"] == 1
    assert len(json.loads(layout.detections.read_text())["frames"]) == FRAMES
