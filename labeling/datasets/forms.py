from typing import Any

from django import forms

from core.paths import PathError, resolve_allowed
from labeling.datasets.models import Dataset


class DatasetForm(forms.ModelForm):
    class Meta:
        model = Dataset
        fields = ["name", "description", "source_folder"]
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "name": "What the recordings have in common, such as the place or the project.",
            "source_folder": "Where the recordings lie on the server. Leave it empty to upload files instead.",
        }
        labels = {"source_folder": "Source folder"}

    def clean_source_folder(self) -> str:
        value: str = self.cleaned_data["source_folder"]
        if not value:
            return ""
        try:
            folder = resolve_allowed(value, field="source_folder")
        except PathError as error:
            raise forms.ValidationError(error.errors["source_folder"][0]) from error
        if not folder.is_dir():
            raise forms.ValidationError(f"{value} is not a folder.")
        return str(folder)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["name"].widget.attrs["autofocus"] = True
        self.fields["source_folder"].widget.attrs |= {"spellcheck": "false", "autocomplete": "off"}
