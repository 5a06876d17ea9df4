import subprocess
import sys

import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.plan import SEGMENTERS

CRATE = ClassSpec(1, "crate", typical_size_hwl=(0.8, 0.8, 1.0))
PERSON = ClassSpec(2, "pedestrian", typical_size_hwl=(1.75, 0.6, 0.6))


def choose(requested, *, folders=(), metric=True, classes=(CRATE,)):
    return registry.choose(requested, metric_stereo=metric, classes=classes, models_folders=folders)


def test_every_segmenter_of_the_job_form_has_a_status():
    assert {each.name for each in registry.statuses([])} == set(SEGMENTERS) - {"auto"}


def test_what_is_not_available_says_why_and_what_to_do():
    for status in registry.statuses([]):
        assert status.available or (status.reason and status.how_to_get)


def test_auto_prefers_deeplab_where_its_weights_and_a_class_of_its_own_are(models_folder):
    assert choose("auto", folders=[models_folder], classes=[CRATE, PERSON]) == "deeplab"


def test_auto_takes_geometry_where_the_classes_mean_nothing_to_deeplab(models_folder):
    assert choose("auto", folders=[models_folder]) == "geometric"


def test_auto_takes_geometry_where_there_are_no_weights():
    assert choose("auto", classes=[PERSON]) == "geometric"


def test_auto_says_what_to_do_where_nothing_fits():
    with pytest.raises(SegmenterUnavailableError, match=r"calibration.*deeplabv3_mnv2.*FOVEA_MODELS_DIR"):
        choose("auto", metric=False)


def test_missing_weights_are_named_with_the_setting(tmp_path):
    with pytest.raises(SegmenterUnavailableError, match=r"deeplabv3_mnv2_pascal_quant.tflite.*FOVEA_MODELS_DIR"):
        choose("deeplab", folders=[tmp_path], classes=[PERSON])


def test_damaged_weights_are_refused(tmp_path):
    (tmp_path / registry.DEEPLAB_FILE).write_bytes(b"not a model")
    with pytest.raises(SegmenterUnavailableError, match=r"deeplabv3_mnv2_pascal_quant.tflite.*SHA-256"):
        choose("deeplab", folders=[tmp_path], classes=[PERSON])


@pytest.mark.parametrize("name", ["sam2", "sam3"])
def test_what_is_still_to_come_is_refused_when_it_is_chosen(name):
    with pytest.raises(SegmenterUnavailableError, match=f"{name} is not part of this version"):
        choose(name)
    with pytest.raises(SegmenterUnavailableError, match=name):
        registry.load(name, [CRATE])


def test_geometry_needs_metric_stereo():
    with pytest.raises(SegmenterUnavailableError, match="calibration"):
        choose("geometric", metric=False)


def test_geometry_needs_a_size():
    with pytest.raises(SegmenterUnavailableError, match="typical size"):
        choose("geometric", classes=[ClassSpec(1, "gizmo")])


def test_deeplab_needs_a_class_it_knows(models_folder):
    with pytest.raises(SegmenterUnavailableError, match="PASCAL VOC"):
        choose("deeplab", folders=[models_folder])


def test_an_unknown_name_is_refused():
    with pytest.raises(SegmenterUnavailableError, match="'magic'"):
        choose("magic")


def test_asking_what_there_is_loads_no_runtime():
    code = (
        "import sys; from pipeline.segmentation import registry; registry.statuses([]); "
        "print('ai_edge_litert' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
