"""The form that starts an export."""

from typing import Any

from django import forms

from training.formats.base import SPLITS
from training.models import TrainingDataset


class TrainingDatasetForm(forms.Form):
    """What the API takes, with the classes to keep instead of those to leave out. Services judge the values."""

    name = forms.CharField(max_length=200, label="Name")
    description = forms.CharField(required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 2}))
    format = forms.ChoiceField(choices=TrainingDataset.Format.choices, widget=forms.RadioSelect, initial="both")
    train_ratio = forms.FloatField(initial=0.7, min_value=0, max_value=1, label="Train")
    val_ratio = forms.FloatField(initial=0.2, min_value=0, max_value=1, label="Validation")
    test_ratio = forms.FloatField(initial=0.1, min_value=0, max_value=1, label="Test")
    split_by = forms.ChoiceField(choices=[("frame", "Frame"), ("sequence", "Recording")], initial="frame")
    seed = forms.IntegerField(initial=0, help_text="The same seed divides the same frames the same way.")
    include_masks = forms.BooleanField(required=False, initial=True, label="Masks")
    include_depth = forms.BooleanField(required=False, initial=True, label="Depth maps")
    include_3d_boxes = forms.BooleanField(required=False, initial=True, label="3D boxes")
    include_velodyne = forms.BooleanField(required=False, label="Point clouds")
    segmentation = forms.ChoiceField(
        choices=[("rle", "Run lengths (exact)"), ("polygons", "Polygons (no holes)")], label="COCO masks as"
    )
    classes = forms.TypedMultipleChoiceField(
        coerce=int, widget=forms.CheckboxSelectMultiple, error_messages={"required": "Keep at least one class."}
    )
    min_confidence = forms.FloatField(initial=0, min_value=0, max_value=1, required=False, label="Least confidence")

    def __init__(self, *args: Any, class_choices: list[tuple[int, str]], **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["classes"].choices = class_choices
        self.fields["classes"].required = bool(class_choices)
        for split in SPLITS:
            self.fields[f"{split}_ratio"].widget.attrs |= {"step": "any", "data-ratio": split}

    def parameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """For the service: its parameters, and the filter as JSON."""
        values = dict(self.cleaned_data)
        kept = set(values.pop("classes"))
        numbers = [number for number, _ in self.fields["classes"].choices]
        filters = {
            "excluded_class_ids": [number for number in numbers if number not in kept],
            "min_confidence": values.pop("min_confidence") or 0.0,
        }
        return values, filters
