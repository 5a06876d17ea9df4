"""The shapes of jobs in the API."""

from typing import Any

from django.db.models import TextChoices
from rest_framework import serializers

from core.models import WorkStatus
from labeling.jobs import selectors
from labeling.jobs.models import LogLine, ProcessingJob, Sequence
from pipeline.stages.plan import DEPTH_METHODS, IMAGE_FORMATS, SAM_VARIANTS, SEGMENTERS, STAGE_NAMES, PipelineConfig

DEFAULTS = PipelineConfig()


class StageName(TextChoices):
    EXTRACTION = "extraction"
    SEGMENTATION = "segmentation"
    RECONSTRUCTION = "reconstruction"
    TRACKING = "tracking"


class JobCreateSerializer(serializers.Serializer[Any]):
    """The parameters of a new job. Their ranges are checked by the engine's own configuration."""

    input_paths = serializers.ListField(
        child=serializers.CharField(max_length=1000),
        default=list,
        help_text="Recordings below the configured folders (FOVEA_DATA_ROOTS)",
    )
    dataset_id = serializers.UUIDField(
        default=None, allow_null=True, help_text="The dataset the job belongs to; without paths all its recordings"
    )
    file_ids = serializers.ListField(
        child=serializers.UUIDField(), default=list, help_text="Only these files of the dataset"
    )
    name = serializers.CharField(max_length=200, default="", allow_blank=True)
    start = serializers.BooleanField(default=False, help_text="Start it at once")
    use_class_head = serializers.BooleanField(
        default=True, help_text="Let the dataset's active class head, if it has one, name what the segmenter finds"
    )
    stages_to_run = serializers.ListField(
        child=serializers.CharField(max_length=40),
        default=list(STAGE_NAMES),
        help_text=f"Of {', '.join(STAGE_NAMES)}; what a stage depends on runs too",
    )
    segmenter = serializers.CharField(max_length=40, default="auto", help_text=f"One of {', '.join(SEGMENTERS)}")
    sam3_variant = serializers.CharField(
        max_length=40, default=DEFAULTS.sam3_variant, help_text=f"One of {', '.join(SAM_VARIANTS)}"
    )
    confidence_threshold = serializers.FloatField(default=DEFAULTS.confidence_threshold, help_text="0 to 1")
    batch_size = serializers.IntegerField(default=DEFAULTS.batch_size, help_text="Frames per batch, 1 to 64")
    frame_skip = serializers.IntegerField(default=DEFAULTS.frame_skip, help_text="Process every Nth frame, 1 to 1000")
    enable_diversity_filter = serializers.BooleanField(default=DEFAULTS.enable_diversity_filter)
    similarity_threshold = serializers.FloatField(
        default=DEFAULTS.similarity_threshold, help_text="dHash distance in bits, 0 to 64"
    )
    motion_threshold = serializers.FloatField(
        default=DEFAULTS.motion_threshold, help_text="Mean grey difference, 0 to 1"
    )
    object_class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**31 - 1),
        default=list,
        help_text="Numbers of the label classes to look for; empty means all",
    )
    depth_method = serializers.CharField(
        max_length=20,
        default=DEFAULTS.depth_method,
        help_text=f"One of {', '.join(DEPTH_METHODS)}; neural needs a stereo_*.onnx in the models folders",
    )
    flip_agreement = serializers.BooleanField(
        default=DEFAULTS.flip_agreement, help_text="Segment the mirrored image too and say how far its masks agree"
    )
    image_format = serializers.CharField(
        max_length=10, default=DEFAULTS.image_format, help_text=f"One of {', '.join(IMAGE_FORMATS)}"
    )
    write_point_clouds = serializers.BooleanField(default=DEFAULTS.write_point_clouds)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            for name in data:
                if name not in self.fields:
                    raise serializers.ValidationError({name: ["There is no such parameter."]})
        return super().to_internal_value(data)


PLACE_FIELDS = ("input_paths", "dataset_id", "file_ids", "name", "start", "use_class_head")
"""Parameters that are not the engine's configuration."""


class StageStateSerializer(serializers.Serializer[Any]):
    name = serializers.ChoiceField(choices=StageName.choices)
    status = serializers.ChoiceField(choices=WorkStatus.choices)
    progress = serializers.FloatField(help_text="0 to 1")
    share = serializers.FloatField(help_text="Its share of the job's progress")
    done = serializers.IntegerField()
    total = serializers.IntegerField()
    bad_frames = serializers.IntegerField()
    elapsed_s = serializers.FloatField()
    frames_per_second = serializers.FloatField(allow_null=True)


class StageRunSerializer(serializers.Serializer[Any]):
    stage = serializers.ChoiceField(choices=StageName.choices)
    status = serializers.ChoiceField(choices=WorkStatus.choices)
    cursor = serializers.IntegerField()
    total = serializers.IntegerField()
    bad_frames = serializers.IntegerField()
    last_error = serializers.CharField()
    elapsed_s = serializers.FloatField()


class SequenceSerializer(serializers.ModelSerializer[Sequence]):
    stages = StageRunSerializer(source="stage_runs", many=True, read_only=True)

    class Meta:
        model = Sequence
        fields = ("id", "name", "position", "file", "source_path", "sha256", "metric", "metadata", "camera", "stages")
        read_only_fields = fields


class ClassHeadSnapshotSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="Of the model version")
    number = serializers.IntegerField()
    name = serializers.CharField()
    sha256 = serializers.CharField()


class JobListSerializer(serializers.ModelSerializer[ProcessingJob]):
    dataset_name = serializers.CharField(source="dataset.name", default=None, allow_null=True)
    sequence_count = serializers.IntegerField()
    actions = serializers.SerializerMethodField()

    class Meta:
        model = ProcessingJob
        fields = (
            "id",
            "name",
            "dataset",
            "dataset_name",
            "status",
            "progress",
            "current_stage",
            "message",
            "error",
            "segmenter",
            "sequence_count",
            "actions",
            "created_at",
            "started_at",
            "finished_at",
            "version",
        )
        read_only_fields = fields

    def get_actions(self, job: ProcessingJob) -> list[str]:
        from core.work import allowed_actions

        return allowed_actions(job) if job.may_run else []  # type: ignore[attr-defined]


class JobSerializer(JobListSerializer):
    """A job in full: stages over all sequences, each sequence, time worked and left."""

    class_head = ClassHeadSnapshotSerializer(allow_null=True)
    stages = StageStateSerializer(many=True)
    elapsed_s = serializers.FloatField()
    remaining_s = serializers.FloatField(allow_null=True)
    sequences = SequenceSerializer(many=True)

    class Meta(JobListSerializer.Meta):
        fields = (
            *JobListSerializer.Meta.fields,
            "config",
            "classes",
            "segmenter_sha256",
            "class_head",
            "code_version",
            "stages",
            "elapsed_s",
            "remaining_s",
            "sequences",
        )
        read_only_fields = fields

    def to_representation(self, job: ProcessingJob) -> dict[str, Any]:
        sequences = list(selectors.sequences(job))
        state = selectors.job_state(job, [run for sequence in sequences for run in sequence.stage_runs.all()])
        body = JobListSerializer(job, context=self.context).data
        return {
            **body,
            "config": job.config,
            "classes": job.classes,
            "segmenter_sha256": job.segmenter_sha256,
            "class_head": job.class_head,
            "code_version": job.code_version,
            "stages": state["stages"],
            "elapsed_s": state["elapsed_s"],
            "remaining_s": state["remaining_s"],
            "sequences": SequenceSerializer(sequences, many=True).data,
        }


class JobRenameSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200)


class LogLineSerializer(serializers.ModelSerializer[LogLine]):
    class Meta:
        model = LogLine
        fields = ("id", "level", "text", "created_at")
        read_only_fields = fields


class SegmenterSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    available = serializers.BooleanField()
    reason = serializers.CharField(help_text="Why it cannot run here")
    how_to_get = serializers.CharField()
    speed = serializers.CharField(help_text="What to expect on this machine")
    sizes = serializers.ListField(child=serializers.CharField(), help_text="Sizes whose weights are here")
    powers = serializers.ListField(
        child=serializers.CharField(), help_text="Of automatic (what jobs need), interactive, video"
    )
