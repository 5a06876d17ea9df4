"""The form that makes a job. It only shapes what was typed; services.create_job checks it."""

from typing import Any

from django import forms
from django.conf import settings

from accounts.models import Role, User
from core.errors import ApplicationError
from labeling.datasets.models import Dataset, LabelClass
from labeling.jobs import class_heads, segmenters, services
from labeling.jobs.models import ProcessingJob
from pipeline.stages.plan import DEPTH_METHODS, IMAGE_FORMATS, SAM_VARIANTS, SEGMENTERS, STAGE_NAMES, PipelineConfig

DEFAULTS = PipelineConfig()
STAGE_HELP = {
    "extraction": "Rectified left and right images, depth in metres, point clouds, calibration, inertial rows.",
    "segmentation": "Objects in every frame: class, confidence, mask. Needs extraction.",
    "reconstruction": "An upright 3D box around each object, in KITTI's conventions. Needs segmentation.",
    "tracking": "One identity per object through the sequence (ByteTrack). Needs reconstruction.",
}
DEPTH_LABELS = {
    "auto": "The ZED SDK's where there is one, else matched here",
    "sgbm": "Semi-global matching",
    "neural": "Neural network",
}


class JobForm(forms.Form):
    name = forms.CharField(
        max_length=200, required=False, help_text="Left empty, it is named after the dataset or the recording."
    )
    dataset = forms.ModelChoiceField(Dataset.objects.none(), required=False, empty_label="No dataset: files by path")
    file_ids = forms.MultipleChoiceField(required=False)
    input_paths = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        required=False,
        label="Paths of recordings",
        help_text="One per line, below the folders this server may read.",
    )
    stages_to_run = forms.MultipleChoiceField(choices=[(name, name.capitalize()) for name in STAGE_NAMES])
    object_class_ids = forms.TypedMultipleChoiceField(coerce=int, required=False)
    segmenter = forms.ChoiceField(choices=[(name, name) for name in SEGMENTERS], initial="auto")
    sam3_variant = forms.ChoiceField(
        choices=[(name, name.capitalize()) for name in SAM_VARIANTS],
        initial=DEFAULTS.sam3_variant,
        label="Model size",
        help_text="Of SAM 2 or SAM 3, where one of them is chosen.",
    )
    use_class_head = forms.BooleanField(required=False, initial=True)
    confidence_threshold = forms.FloatField(
        initial=DEFAULTS.confidence_threshold,
        widget=forms.NumberInput(attrs={"min": 0, "max": 1, "step": 0.05}),
        help_text="Detections below it are dropped. Lower finds more, and more that is wrong.",
    )
    batch_size = forms.IntegerField(
        initial=DEFAULTS.batch_size,
        widget=forms.NumberInput(attrs={"min": 1, "max": 64}),
        help_text="Frames given to the segmenter at once; more needs more memory.",
    )
    flip_agreement = forms.BooleanField(
        required=False, label="Segment the mirrored image too, and say how far its masks agree: twice the time"
    )
    frame_skip = forms.IntegerField(
        initial=DEFAULTS.frame_skip,
        widget=forms.NumberInput(attrs={"min": 1, "max": 1000}),
        label="Every Nth frame",
        help_text="1 takes all; 5 takes every fifth.",
    )
    depth_method = forms.ChoiceField(
        choices=[(name, DEPTH_LABELS[name]) for name in DEPTH_METHODS],
        initial=DEFAULTS.depth_method,
        label="Depth",
    )
    image_format = forms.ChoiceField(
        choices=[("png", "PNG, lossless"), ("jpeg", "JPEG, a sixth of the size")], initial=IMAGE_FORMATS[0]
    )
    write_point_clouds = forms.BooleanField(required=False, initial=True, label="Write point clouds (velodyne/*.bin)")
    enable_diversity_filter = forms.BooleanField(
        required=False, label="Leave out frames that are too like the last kept one"
    )
    similarity_threshold = forms.FloatField(
        initial=DEFAULTS.similarity_threshold,
        widget=forms.NumberInput(attrs={"min": 0, "max": 64, "step": 1}),
        help_text="Bits of the 64 of a dHash: up to so many differences count as the same picture.",
    )
    motion_threshold = forms.FloatField(
        initial=DEFAULTS.motion_threshold,
        widget=forms.NumberInput(attrs={"min": 0, "max": 1, "step": 0.005}),
        help_text="Mean change of grey (0 to 1) below which a frame counts as still.",
    )

    def __init__(self, *args: Any, user: User, dataset: Dataset | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["depth_method"].help_text = _network_here()
        self.fields["dataset"].queryset = Dataset.objects.for_user(user, Role.MANAGER)  # type: ignore[attr-defined]
        self.initial.setdefault("dataset", dataset)
        self.initial.setdefault("stages_to_run", list(STAGE_NAMES))
        self.chosen_dataset = dataset
        self.class_head = class_heads.active_for(dataset)
        self.files = list(dataset.files.order_by("name")) if dataset else []
        self.fields["file_ids"].choices = [(str(file.pk), file.name) for file in self.files]  # type: ignore[attr-defined]
        self.classes = list(LabelClass.objects.filter(dataset=dataset).order_by("number"))
        self.fields["object_class_ids"].choices = [(row.number, row.name) for row in self.classes]  # type: ignore[attr-defined]

    def stage_choices(self) -> list[dict[str, Any]]:
        chosen = set(self["stages_to_run"].value() or ())
        return [{"name": name, "help": STAGE_HELP[name], "checked": name in chosen} for name in STAGE_NAMES]

    def segmenter_choices(self) -> list[dict[str, Any]]:
        chosen = self["segmenter"].value()
        auto = {"name": "auto", "available": True, "reason": "", "how_to_get": "", "speed": "", "sizes": []}
        return [
            {
                **item,
                "label": segmenters.LABELS.get(item["name"], item["name"]),
                "help": segmenters.HELP.get(item["name"], ""),
                "checked": item["name"] == chosen,
            }
            for item in [auto, *segmenters.statuses()]
        ]

    def save(self, *, start: bool) -> ProcessingJob | None:
        """The new job, or None with the errors at their fields."""
        values = dict(self.cleaned_data)
        dataset = values.pop("dataset")
        place = {
            "dataset": dataset,
            "file_ids": values.pop("file_ids"),
            "input_paths": [line.strip() for line in values.pop("input_paths").splitlines() if line.strip()],
            "name": values.pop("name"),
            "use_class_head": values.pop("use_class_head"),
        }
        place["file_ids"] = [file.pk for file in self.files if str(file.pk) in set(place["file_ids"])]
        try:
            return services.create_job(user=self.user, parameters=values, start=start, **place)
        except ApplicationError as error:
            for field, sentences in error.errors.items() or [("", [error.detail])]:
                name = field.partition(".")[0]
                name = {"dataset_id": "dataset"}.get(name, name)
                for sentence in sentences:
                    self.add_error(name if name in self.fields else None, sentence)
            return None


def _network_here() -> str:
    """What "Neural network" would run on this server, or why it cannot."""
    from pipeline.stereo.methods import find_stereo_model, why_no_network

    missing = why_no_network(settings.MODELS_FOLDERS)
    if missing:
        return f"No neural network can run here: {missing}"
    found = find_stereo_model(settings.MODELS_FOLDERS)
    return f"The neural network here is {found.name}." if found else ""
