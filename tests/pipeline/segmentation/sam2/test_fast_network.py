import json
import logging

import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.automatic_masks import Selection
from pipeline.segmentation.base import ClassSpec, Prompt, View
from pipeline.segmentation.sam2.segmenter import Sam2

CRATE = ClassSpec(4, "crate")
FEW = Selection(points_per_side=5, quality=0.5, stability=0.5)


@pytest.fixture(scope="module", params=[pytest.param("openvino", marks=pytest.mark.slow), "onnxruntime"])
def compiled(request, hub_folder, tmp_path_factory):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed (extra `sam`)")
    if request.param == "onnxruntime":
        pytest.importorskip("onnx", reason="onnx is not installed (extra `sam`)")
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEA_CACHE_DIR", str(cache))
        sam = Sam2((CRATE,), (hub_folder,), compiled=request.param, selection=FEW)
        assert sam.description == f"sam2.1-tiny, transformers on cpu, {request.param}"
        yield sam, cache, request.param


@pytest.fixture(scope="module")
def eager(hub_folder):
    return Sam2((CRATE,), (hub_folder,), compiled="no", selection=FEW)


def test_what_is_compiled_computes_the_same(compiled, eager, truck, film):
    sam = compiled[0]
    ours, theirs = sam.embed(truck), eager.embed(truck)
    for a, b in zip(ours.features, theirs.features, strict=True):
        assert np.abs(a.numpy() - b.numpy()).max() < 1e-4 * np.abs(b.numpy()).max()
    mask = np.zeros(truck.shape[:2], bool)
    mask[50:120, 60:200] = True
    for prompt in (
        Prompt(points_xy=np.array([[150.0, 100]]), point_labels=np.array([1])),
        Prompt(points_xy=np.array([[150.0, 100], [3, 3], [9, 9]]), point_labels=np.array([1, 0, 0])),
        Prompt(box_xyxy=np.array([60.0, 50, 200, 120])),
        Prompt(mask=mask),
    ):
        pairs = zip(sam.predict(ours, prompt), eager.predict(theirs, prompt), strict=True)
        for a, b in pairs:
            assert np.abs(a.logits - b.logits).max() < 1e-3 * np.abs(b.logits).max()
            assert a.quality == pytest.approx(b.quality, abs=1e-4)
    found = [each.segment([View(truck)])[0] for each in (sam, eager)]
    assert len(found[0]) == len(found[1]) > 0
    prompts = {(0, 1): Prompt(box_xyxy=np.array([20.0, 30, 50, 60]))}
    for a, b in zip(sam.propagate(film(3), prompts), eager.propagate(film(3), prompts), strict=True):
        assert np.mean((a.logits[1] > 0) == (b.logits[1] > 0)) > 0.99


def test_the_same_image_gives_the_same_bytes(compiled, truck):
    first, second = (compiled[0].segment([View(truck)])[0] for _ in range(2))
    assert [each.logits.tobytes() for each in first] == [each.logits.tobytes() for each in second]


def test_it_is_compiled_once_and_kept_with_what_it_was_made_from(compiled, hub_folder, monkeypatch):
    _, cache, runtime = compiled
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(cache))
    made = list((cache / "sam2").rglob("made.json"))
    assert len(made) == 1
    assert runtime in made[0].parent.name
    assert max(json.loads(made[0].read_text())["errors"].values()) < 1e-4
    assert [each.name for each in (cache / "sam2").iterdir()] == [made[0].parent.name]
    from pipeline.segmentation.sam2 import fast_network

    monkeypatch.setattr(fast_network, "_export", lambda *_: pytest.fail("it was exported again"))
    Sam2((CRATE,), (hub_folder,), compiled=runtime)


def test_a_spoilt_file_in_the_cache_is_made_anew(compiled, hub_folder, monkeypatch, truck):
    _, cache, runtime = compiled
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(cache))
    spoilt = next((cache / "sam2").rglob("encoder.onnx"))
    spoilt.write_bytes(spoilt.read_bytes()[:1000])
    sam = Sam2((CRATE,), (hub_folder,), compiled=runtime, selection=FEW)
    assert runtime in sam.description
    assert sam.segment([View(truck)])[0]


def test_an_export_that_is_not_equal_is_not_used(compiled, hub_folder, monkeypatch, tmp_path, caplog):
    from pipeline.segmentation.sam2 import fast_network

    runtime = compiled[2]
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(fast_network, "_export_part", lambda *_: 0.3)
    with caplog.at_level(logging.WARNING):
        sam = Sam2((CRATE,), (hub_folder,), compiled=runtime)
    assert sam.description.endswith("float32")
    assert "differs from the network" in caplog.text
    assert list((tmp_path / "sam2").iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_speed_alone(compiled, hub_folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(tmp_path / "file"))
    assert Sam2((CRATE,), (hub_folder,), compiled=compiled[2]).description.endswith("float32")


def test_a_runtime_that_is_asked_for_by_name_must_be_there(hub_folder, monkeypatch):
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "tensorrt")
    with pytest.raises(SegmenterUnavailableError, match="FOVEA_SAM_COMPILED='tensorrt'"):
        Sam2((CRATE,), (hub_folder,))
