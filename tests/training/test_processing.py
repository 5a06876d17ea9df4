"""A recording becomes a training dataset from the command line, without database or server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pycocotools.coco import COCO

from pipeline.errors import ConfigurationError, SegmenterUnavailableError
from pipeline.geometry.kitti import read_labels
from pipeline.segmentation.base import ClassSpec
from pipeline.simulation.recording import DemoRecording
from pipeline.simulation.scene import CLASSES
from pipeline.stages.plan import PipelineConfig
from training.formats.splits import SplitConfig
from training.processing import Processing

FRAMES = 8


def processing(street: DemoRecording, out: Path, **changes: object) -> Processing:
    values: dict[str, object] = {
        "recording": street.recording,
        "out": out,
        "config": PipelineConfig(segmenter="geometric", confidence_threshold=0.4),
        "classes": CLASSES,
        "split": SplitConfig(0.5, 0.25, 0.25),
    }
    return Processing(**{**values, **changes})  # type: ignore[arg-type]


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lineage.json":
            yield str(path.relative_to(folder)), path.read_bytes()


def test_a_recording_leaves_as_kitti_and_coco_with_lineage(street: DemoRecording, tmp_path: Path):
    statistics = processing(street, tmp_path).run()
    root = tmp_path / "training_dataset"
    assert statistics["total_frames"] == FRAMES
    assert statistics["annotations_with_3d_box"] > FRAMES
    coco = [COCO(str(root / "coco" / split / "annotations.json")) for split in ("train", "val", "test")]
    assert sum(len(part.getImgIds()) for part in coco) == FRAMES
    labels = [read_labels(path) for path in (root / "kitti").rglob("label_2/*.txt")]
    assert sum(map(len, labels)) == sum(len(part.getAnnIds()) for part in coco) == statistics["total_annotations"]
    lineage = json.loads((root / "lineage.json").read_text())
    assert lineage["recordings"][0]["camera_serial"] == "20260007"
    assert lineage["pipeline"]["segmenter"] == "geometric"


def test_running_it_again_does_nothing_twice_and_leaves_the_same_files(street: DemoRecording, tmp_path: Path):
    processing(street, tmp_path).run()
    before = dict(files_of(tmp_path))
    done: list[tuple[str, int]] = []
    processing(street, tmp_path).run(lambda what, number, _total: done.append((what, number)))
    assert dict(files_of(tmp_path)) == before
    assert {number for what, number in done if what == "segmentation"} == {0, FRAMES}


def test_another_configuration_wants_another_folder(street: DemoRecording, tmp_path: Path):
    only_extraction = PipelineConfig(stages_to_run=("extraction",))
    processing(street, tmp_path, config=only_extraction).run()
    with pytest.raises(ConfigurationError, match="holds the result of other parameters"):
        processing(street, tmp_path, config=PipelineConfig(stages_to_run=("extraction",), frame_skip=2)).run()


def test_a_segmenter_that_is_not_here_is_refused_before_anything_is_written(street: DemoRecording, tmp_path: Path):
    with pytest.raises(SegmenterUnavailableError, match="FOVEA_MODELS_DIR"):
        processing(street, tmp_path, config=PipelineConfig(segmenter="deeplab"), classes=[ClassSpec(1, "person")]).run()
    assert not list(tmp_path.iterdir())


def test_the_command_names_what_is_wrong_with_its_arguments(street: DemoRecording, tmp_path: Path):
    out = f"--out={tmp_path}"
    with pytest.raises(CommandError, match=r"gone\.svo2 does not exist"):
        call_command("process", str(tmp_path / "gone.svo2"), out)
    with pytest.raises(CommandError, match="--classes: 'unicorn' is not one of person, car"):
        call_command("process", str(street.recording), out, "--classes=unicorn")
    with pytest.raises(CommandError, match="--split: '1' is not three numbers"):
        call_command("process", str(street.recording), out, "--split=1")
    with pytest.raises(CommandError, match=r"sum to 0\.7 instead of 1"):
        call_command("process", str(street.recording), out, "--split=0.5,0.1,0.1")
    with pytest.raises(CommandError, match="stages_to_run: 'flying'"):
        call_command("process", str(street.recording), out, "--stages=flying")


def test_another_calibration_wants_another_folder(street: DemoRecording, tmp_path: Path):
    only_extraction = PipelineConfig(stages_to_run=("extraction",))
    processing(street, tmp_path / "out", config=only_extraction).run()
    other = tmp_path / street.calibration.name
    text = street.calibration.read_text()
    baseline = re.search(r"^Baseline=.*$", text, re.M).group()
    other.write_text(text.replace(baseline, "Baseline=240.0"))
    with pytest.raises(ConfigurationError, match="other parameters"):
        processing(street, tmp_path / "out", config=only_extraction, calibration_file=other).run()
