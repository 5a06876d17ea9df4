"""The demo's steps, each through the same services the web application calls. Running it again finds what is there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.urls import reverse

from accounts.models import User
from core.models import WorkStatus
from labeling.datasets import operations
from labeling.datasets import services as datasets
from labeling.datasets.models import Dataset, LabelClass, Operation
from labeling.jobs import services as jobs
from labeling.jobs.models import Detection, ProcessingJob, Track
from pipeline.simulation.recording import SERIAL, DemoRecording, write_demo_recording
from pipeline.simulation.scene import CLASSES
from pipeline.simulation.scoring import PredictedBox, Score, score
from training import services as training
from training.models import TrainingDataset

EMAIL = "admin@localhost.localdomain"
NAME = "Street corner"
FRAMES = 60


def recordings_folder() -> Path:
    """The first folder whose recordings users may register: the demo's lies in it."""
    return Path(settings.DATA_ROOTS[0]) / "demo"


def record(folder: Path, frames: int, progress: Callable[[int, int], None]) -> DemoRecording:
    """The recording, made unless a whole one of that length lies there."""
    marker = folder / ".frames"
    if marker.exists() and marker.read_text() == str(frames):
        progress(frames, frames)
        return DemoRecording(folder / "demo.svo2", folder / f"SN{SERIAL}.conf", folder / "ground_truth.json")
    marker.unlink(missing_ok=True)
    recording = write_demo_recording(folder, frames=frames, progress=progress)
    marker.write_text(str(frames))
    return recording


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    job: ProcessingJob
    export: TrainingDataset
    score: Score

    @property
    def page(self) -> str:
        return reverse("review:job", args=[self.job.pk])

    def rows(self, seconds: float) -> list[tuple[str, str]]:
        stage_runs = [run for sequence in self.job.sequences.all() for run in sequence.stage_runs.all()]
        per_stage = ", ".join(f"{run.stage} {run.elapsed_s:.0f} s" for run in stage_runs)
        return [
            ("Frames", str(self.job.frames.count())),
            ("Detections", str(self.job.detections.count())),
            ("Tracks", str(Track.objects.filter(sequence__job=self.job).count())),
            ("Mean 3D IoU", f"{self.score.mean_iou_3d:.2f} over {self.score.matched} matched objects"),
            ("Recall, precision", f"{self.score.recall:.2f}, {self.score.precision:.2f}"),
            ("Stages", per_stage),
            ("Time in all", f"{seconds:.0f} s"),
            ("Training dataset", str(settings.EXPORTS_ROOT / str(self.export.pk))),
        ]


class Demo:
    """The dataset of the demo recording and the work on it."""

    def __init__(self, recording: DemoRecording) -> None:
        self.recording = recording
        self.user = User.objects.get(email=EMAIL)
        folder = str(recording.recording.parent)
        found = Dataset.objects.for_user(self.user).filter(name=NAME, source_folder=folder).first()
        self.dataset = found or datasets.create_dataset(
            user=self.user,
            name=NAME,
            description="A simulated street corner with known ground truth, filmed as a ZED films it.",
            source_folder=folder,
        )

    def scan(self) -> Operation:
        return self._under_way(Operation.Kind.SCAN) or operations.scan_dataset(user=self.user, dataset=self.dataset)

    def prepare(self) -> Operation:
        """The preparation; an ended one where there is nothing left to prepare."""
        if self.dataset.files.filter(prepared_at=None).exists():
            return self._under_way(Operation.Kind.PREPARE) or operations.prepare_dataset(
                user=self.user, dataset=self.dataset, mode="link"
            )
        return self.dataset.operations.filter(kind=Operation.Kind.PREPARE)[0]

    def _under_way(self, kind: str) -> Operation | None:
        return self.dataset.operations.filter(kind=kind, status=WorkStatus.RUNNING).first()

    def process(self) -> ProcessingJob:
        """The job over the recording as it is now; one that did the same, or is at it, is taken again."""
        wanted = set(self.dataset.files.values_list("sha256", flat=True))
        for job in self.dataset.jobs.filter(deleted_at=None, status__in=[WorkStatus.RUNNING, WorkStatus.COMPLETED]):
            if set(job.sequences.values_list("sha256", flat=True)) == wanted:
                return job
        numbers = LabelClass.objects.filter(dataset=self.dataset, name__in=[item.name for item in CLASSES])
        return jobs.create_job(
            user=self.user,
            dataset=self.dataset,
            name="Street corner, all four stages",
            parameters={
                "object_class_ids": list(numbers.values_list("number", flat=True)),
                "segmenter": "geometric",
                "confidence_threshold": 0.4,
            },
            start=True,
        )

    def export(self, job: ProcessingJob) -> TrainingDataset:
        done = job.training_datasets.filter(deleted_at=None, status__in=[WorkStatus.RUNNING, WorkStatus.COMPLETED])
        return done.first() or training.create_training_dataset(
            user=self.user, job=job, name="Street corner 1", format=TrainingDataset.Format.BOTH
        )

    def result(self, job: ProcessingJob, export: TrainingDataset) -> Result:
        truth = json.loads(self.recording.ground_truth.read_text())
        return Result(job, export, score(_predicted(job), truth))


def _predicted(job: ProcessingJob) -> dict[int, list[PredictedBox]]:
    """The job's 3D boxes by index of the recording's frame."""
    predicted: dict[int, list[PredictedBox]] = {
        index: [] for index in job.frames.values_list("source_index", flat=True)
    }
    located = Detection.objects.filter(job=job, location_z__isnull=False)
    columns = ("frame__source_index", "label_class__name", "track__number", *Detection.BOX_COLUMNS)
    for index, class_name, track, *box in located.values_list(*columns).iterator():
        predicted[index].append(PredictedBox(box, class_name, track))
    return predicted
