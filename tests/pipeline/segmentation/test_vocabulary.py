import pytest

from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.vocabulary import VOC, voc_names


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        ("Pedestrian", "", ("person",)),
        ("Person_sitting", "", ("person",)),
        ("PersonSitting", "", ("person",)),
        ("cars", "", ("car",)),
        ("Van", "", ("car",)),
        ("potted plant", "", ("pottedplant",)),
        ("Cyclist", "", ("person", "bicycle")),
        ("class 7", "a parked car", ("car",)),
        ("object", "", ()),
        ("carpet", "", ()),
        ("crate", "a wooden crate", ()),
        ("", "", ()),
    ],
)
def test_label_classes_are_understood_by_name_then_by_prompt(name, prompt, expected):
    assert voc_names(ClassSpec(1, name, prompt)) == expected


def test_the_vocabulary_is_the_one_the_model_was_trained_on(models_folder):
    labels = (models_folder / "pascal_voc_segmentation_labels.txt").read_text().split("\n\n")[0].split()
    assert labels[: len(VOC)] == list(VOC)
