import importlib
import subprocess
import sys

import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device, registry, sam_status
from pipeline.segmentation.base import ClassSpec
from pipeline.stages.plan import SEGMENTERS
from tests.pipeline.segmentation.tiny_sam import save_sam2

CRATE = ClassSpec(1, "crate", typical_size_hwl=(0.8, 0.8, 1.0))
PERSON = ClassSpec(2, "pedestrian", typical_size_hwl=(1.75, 0.6, 0.6))


def choose(requested, *, folders=(), metric=True, classes=(CRATE,), **more):
    return registry.choose(requested, metric_stereo=metric, classes=classes, models_folders=folders, **more)


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
def test_what_has_no_weights_here_says_which_and_how_to_get_them(name, tmp_path):
    prompted = ClassSpec(1, "crate", text_prompt="a crate")
    with pytest.raises(SegmenterUnavailableError, match=rf"{name}.*FOVEA_MODELS_DIR.*manage.py models get {name}"):
        choose(name, classes=[prompted])
    with pytest.raises(SegmenterUnavailableError, match=rf"segmenter {name}: .*FOVEA_MODELS_DIR"):
        registry.load(name, [prompted], [tmp_path])
    assert registry.weights_sha256(name, [tmp_path]) == ""


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    return save_sam2(torch, tmp_path_factory.mktemp("models"))


def test_sam2_takes_one_class_or_a_class_head_that_names_what_it_finds(sam_folder):
    assert choose("sam2", folders=[sam_folder]) == "sam2"
    assert choose("sam2", folders=[sam_folder], classes=[CRATE, PERSON], class_head=True) == "sam2"
    with pytest.raises(SegmenterUnavailableError, match=r"knows no classes, and there are 2: choose a single"):
        choose("sam2", folders=[sam_folder], classes=[CRATE, PERSON])


def test_a_size_that_is_not_there_names_those_that_are(sam_folder):
    with pytest.raises(SegmenterUnavailableError, match=r"SAM 2 of size large.*There are weights of size tiny"):
        choose("sam2", folders=[sam_folder], variant="large")
    assert len(registry.weights_sha256("sam2", [sam_folder])) == 64
    status = next(each for each in registry.statuses([sam_folder]) if each.name == "sam2")
    assert status.available
    assert "a frame" in status.how_to_get


def test_cuda_asked_for_and_absent_is_said_when_the_job_is_made(sam_folder, monkeypatch):
    monkeypatch.setattr(device, "has_cuda", lambda: False)
    monkeypatch.setenv("FOVEA_DEVICE", "cuda")
    with pytest.raises(SegmenterUnavailableError, match=r"segmenter sam2: FOVEA_DEVICE=cuda asks for CUDA"):
        choose("sam2", folders=[sam_folder])


def test_a_missing_package_is_said_when_the_job_is_made(sam_folder, monkeypatch):
    monkeypatch.setattr(sam_status, "find_spec", lambda _name: None)
    with pytest.raises(SegmenterUnavailableError, match=r"The package torch, which runs it, is not installed.*extra"):
        choose("sam2", folders=[sam_folder])


def test_auto_takes_sam2_on_a_gpu_and_on_a_cpu_only_where_nothing_else_fits(sam_folder, monkeypatch):
    gizmo = [ClassSpec(1, "gizmo")]
    assert choose("auto", folders=[sam_folder]) == "geometric"
    assert choose("auto", folders=[sam_folder], classes=gizmo, metric=False) == "sam2"
    monkeypatch.setattr(device, "runs_on_gpu", lambda: True)
    assert choose("auto", folders=[sam_folder]) == "sam2"
    assert choose("auto", folders=[sam_folder], classes=[CRATE, PERSON]) == "geometric"


def test_the_powers_are_those_of_the_protocols(sam_folder):
    from pipeline.segmentation.base import Interactive, Segmenter, VideoSegmenter

    protocols = {"automatic": Segmenter, "interactive": Interactive, "video": VideoSegmenter}
    for name in registry.BACKENDS:
        module, _, attribute = registry.BACKENDS[name].partition(":")
        backend = getattr(importlib.import_module(module), attribute)
        can = {power for power, protocol in protocols.items() if has_methods(backend, protocol)}
        assert registry.powers(name) == can, name
    assert registry.powers("magic") == frozenset()


def has_methods(backend, protocol):
    methods = {"Segmenter": {"segment"}, "Interactive": {"embed", "predict"}, "VideoSegmenter": {"propagate"}}
    return all(hasattr(backend, each) for each in methods[protocol.__name__])


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
        "print(bool({'ai_edge_litert', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
