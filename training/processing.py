"""A recording to a training dataset in one go, with files alone: no database, no server, no clicking."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.recordings import fingerprint, open_recording
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.base import StageContext
from pipeline.stages.building import build_stages
from pipeline.stages.plan import PipelineConfig
from pipeline.stages.run import run_stage
from pipeline.stereo.calibration import StereoCalibration
from pipeline.stereo.methods import check_depth_method
from pipeline.storage.atomic import write_text
from pipeline.storage.layout import SequenceLayout
from pipeline.storage.sequence import read_camera, read_frames
from training.formats.base import SPLITS, ExportClass, ExportOptions
from training.formats.export import Export, formats_of, write_lineage
from training.formats.from_sequence import read_export_frames
from training.formats.lineage import lineage_document
from training.formats.splits import SplitConfig, assign_splits

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Processing:
    """What to do with one recording. `out` gets `{sequence}/` (all a job writes) and `training_dataset/`.

    Running it again goes on where it was stopped; a finished stage is not done twice. Another configuration, recording
    or set of classes wants another `out`. Raises PipelineError naming the file, parameter or segmenter.
    """

    recording: Path
    out: Path
    config: PipelineConfig
    classes: Sequence[ClassSpec]
    split: SplitConfig = field(default_factory=SplitConfig)
    options: ExportOptions = field(default_factory=ExportOptions)
    format: str = "both"
    calibration_file: Path | None = None
    calibration_folders: Sequence[Path] = ()
    models_folders: Sequence[Path] = ()
    code_version: str = ""

    @property
    def layout(self) -> SequenceLayout:
        return SequenceLayout(self.out / self.recording.resolve().stem)

    def run(self, progress: Progress = lambda _what, _done, _total: None) -> dict[str, Any]:
        """Do all of it; returns the export's statistics and the number of frames that were skipped."""
        with open_recording(
            self.recording, calibration_file=self.calibration_file, calibration_folders=self.calibration_folders
        ) as recording:
            metadata, calibration = recording.metadata, recording.calibration
        check_depth_method(self.config.depth_method, self.models_folders)
        segmenter = self._segmenter(metric_stereo=metadata.stereo and calibration is not None)
        self._begin(segmenter, calibration)
        context = StageContext(
            layout=self.layout,
            recording=self.recording,
            classes=self.classes,
            calibration_file=self.calibration_file,
            calibration_folders=self.calibration_folders,
            models_folders=self.models_folders,
        )
        skipped = 0
        for name, stage in build_stages(self.config, segmenter).items():
            total = stage.total(context)
            progress(name, 0, total)
            for commit, _ in run_stage(stage, context):
                skipped += bool(commit.error)
                progress(name, commit.cursor, total)
            progress(name, total, total)
        statistics = self._export(segmenter, metadata.camera_serial, progress)
        return {**statistics, "skipped_frames": skipped, "warnings": list(metadata.warnings)}

    def _segmenter(self, *, metric_stereo: bool) -> str:
        if "segmentation" not in build_stages(self.config, ""):
            return ""
        return registry.choose(
            self.config.segmenter,
            metric_stereo=metric_stereo,
            classes=self.classes,
            models_folders=self.models_folders,
            variant=self.config.sam3_variant,
        )

    def _begin(self, segmenter: str, calibration: StereoCalibration | None) -> None:
        """Refuse to go on in a folder where something else was begun."""
        begun = self.layout.journals / "begun.txt"
        identity = repr((self.config, segmenter, tuple(self.classes), fingerprint(self.recording), calibration))
        if begun.exists() and begun.read_text() != identity:
            raise ConfigurationError("out", f"{self.out} holds the result of other parameters: choose another folder.")
        write_text(begun, identity)

    def _export(self, segmenter: str, serial: str, progress: Progress) -> Mapping[str, Any]:
        root = self.out / "training_dataset"
        shutil.rmtree(root, ignore_errors=True)
        export = Export(root, formats_of(self.format), [ExportClass(c.id, c.name) for c in self.classes], self.options)
        keys = [(self.layout.root.name, frame.number) for frame in read_frames(self.layout)]
        numbers = dict.fromkeys(SPLITS, 0)
        for done, (frame, split) in enumerate(
            zip(read_export_frames(self.layout), assign_splits(self.split, keys), strict=True), start=1
        ):
            name = SPLITS[split]
            export.add(frame, name, numbers[name])
            numbers[name] += 1
            progress("export", done, len(keys))
        files = export.finish()
        write_lineage(root, self._lineage(segmenter, serial, export.statistics, files))
        shutil.rmtree(export.parts, ignore_errors=True)
        return export.statistics

    def _lineage(
        self, segmenter: str, serial: str, statistics: Mapping[str, Any], files: Mapping[str, Any]
    ) -> dict[str, Any]:
        camera = read_camera(self.layout)
        return lineage_document(
            training_dataset_id=None,
            source_job_id=None,
            source_dataset_id=None,
            format=self.format,
            filter_config={},
            split_config=self.split.to_json(),
            export_config={"include_masks": self.options.include_masks, "segmentation": self.options.segmentation},
            statistics=statistics,
            recordings=[
                {
                    "sequence": self.layout.root.name,
                    "name": self.recording.name,
                    "sha256": fingerprint(self.recording),
                    "camera_serial": serial,
                    "camera": camera.to_json(),
                    "metric": camera.metric,
                }
            ],
            pipeline={
                "config": self.config.to_json(),
                "segmenter": segmenter,
                "code_version": self.code_version,
                "classes": [each.name for each in self.classes],
            },
            created_at=datetime.now(tz=UTC).isoformat(),
            exported_files=files,
        )
