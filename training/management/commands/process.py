"""Process a recording from the command line: extraction to export, without database or server."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from labeling.datasets.catalogue import CATALOGUE
from labeling.jobs.services import code_version
from pipeline.errors import PipelineError
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.plan import DEPTH_METHODS, IMAGE_FORMATS, SEGMENTERS, STAGE_NAMES, PipelineConfig
from training.formats.splits import SplitConfig
from training.processing import Processing
from training.terminal import ProgressBars


class Command(BaseCommand):
    help = "Turn a recording into a KITTI and COCO training dataset. Stopped, it goes on where it was."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "recording", type=Path, help="SVO2 or video file, or folder of images (KITTI, EuRoC, plain)"
        )
        parser.add_argument("--out", type=Path, required=True, help="folder for the result")
        parser.add_argument(
            "--calibration", type=Path, help="SN*.conf, KITTI calib.txt or JSON; found beside the file else"
        )
        parser.add_argument("--classes", default="person,car,crate,cart", help="names, separated by commas")
        parser.add_argument("--segmenter", default="auto", choices=SEGMENTERS)
        parser.add_argument("--confidence", type=float, default=0.5, help="detections below are dropped")
        parser.add_argument("--frame-skip", type=int, default=1, help="take every Nth frame")
        parser.add_argument("--stages", default=",".join(STAGE_NAMES), help="stages to run, separated by commas")
        parser.add_argument("--depth", default="auto", choices=DEPTH_METHODS, help="how depth is measured")
        parser.add_argument("--image-format", default="png", choices=IMAGE_FORMATS)
        parser.add_argument("--format", default="both", choices=("kitti", "coco", "both"))
        parser.add_argument("--split", default="0.7,0.2,0.1", help="train, val and test ratios")
        parser.add_argument("--seed", type=int, default=0)

    def handle(self, *args: Any, recording: Path, out: Path, **options: Any) -> None:
        with ProgressBars() as bars:
            try:
                statistics = self._processing(recording, out, options).run(bars.show)
            except PipelineError as error:
                raise CommandError(str(error)) from error
        for warning in statistics["warnings"]:
            self.stdout.write(self.style.WARNING(f"  {warning}"))
        self.stdout.write(
            f"  {statistics['total_frames']} frames, {statistics['total_annotations']} annotations, "
            f"{statistics['annotations_with_3d_box']} with a 3D box; {statistics['skipped_frames']} frames skipped\n"
            f"  {out / 'training_dataset'}"
        )

    def _processing(self, recording: Path, out: Path, options: dict[str, Any]) -> Processing:
        if not recording.exists():
            raise CommandError(f"{recording} does not exist.")
        return Processing(
            recording=recording.resolve(),
            out=out.resolve(),
            config=PipelineConfig(
                stages_to_run=tuple(options["stages"].split(",")),
                segmenter=options["segmenter"],
                confidence_threshold=options["confidence"],
                frame_skip=options["frame_skip"],
                depth_method=options["depth"],
                image_format=options["image_format"],
            ),
            classes=_classes(options["classes"]),
            split=SplitConfig(*_ratios(options["split"]), seed=options["seed"]),
            format=options["format"],
            calibration_file=options["calibration"],
            calibration_folders=settings.CALIBRATION_FOLDERS,
            models_folders=settings.MODELS_FOLDERS,
            code_version=code_version(),
        )


def _classes(names: str) -> list[ClassSpec]:
    known = {item.name: item for item in CATALOGUE}
    specs = []
    for number, name in enumerate(filter(None, (each.strip() for each in names.split(","))), start=1):
        if name not in known:
            raise CommandError(f"--classes: {name!r} is not one of {', '.join(known)}.")
        specs.append(ClassSpec(number, name, known[name].text_prompt, known[name].size_hwl))
    return specs


def _ratios(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(each) for each in text.split(","))
    except ValueError:
        raise CommandError(f"--split: {text!r} is not three numbers such as 0.7,0.2,0.1.") from None
    return train, val, test
