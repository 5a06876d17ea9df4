"""EdgeTAM of the smallest size with random weights, saved as the hub has it, and its encoder beside timm's."""

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import sam_status, weights
from pipeline.segmentation.automatic_masks import Selection
from pipeline.segmentation.base import ClassSpec, Interactive, Prompt, Segmenter, VideoSegmenter, View
from pipeline.segmentation.sam2.segmenter import Sam2
from tests.pipeline.segmentation.tiny_sam import edgetam_settings, save_edgetam

CRATE = ClassSpec(4, "crate")
FEW = Selection(points_per_side=6, quality=0.5, stability=0.5)
BOX = {(0, 1): Prompt(box_xyxy=np.array([20.0, 30, 50, 60]))}


@pytest.fixture(scope="module")
def edge_folder(torch, tmp_path_factory):
    return save_edgetam(torch, tmp_path_factory.mktemp("edge"))


@pytest.fixture(scope="module")
def edge(edge_folder):
    return Sam2((CRATE,), (edge_folder,), compiled="no", selection=FEW)


@pytest.fixture
def copied(edge_folder, tmp_path):
    """A copy that may be spoilt: its folder, with config.json and model.safetensors."""
    return shutil.copytree(edge_folder / "EdgeTAM-hf", tmp_path / "EdgeTAM-hf")


def stirred(torch, tensors):
    """The tensors of a fresh network with every normalisation at random, so that no layer passes on nothing, or
    unchanged what it is given."""
    source = torch.Generator().manual_seed(7)
    normalised = [name for name in tensors if ".bn." in name and not name.endswith("num_batches_tracked")]
    return tensors | {name: 0.2 + 0.6 * torch.rand(tensors[name].shape, generator=source) for name in normalised}


def timm():
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # without torchvision, or with one made for another torch
        pytest.skip(f"timm does not run here: {error}")
    return timm


def test_it_has_all_three_powers_and_says_what_it_is(edge):
    assert isinstance(edge, Segmenter)
    assert isinstance(edge, Interactive)
    assert isinstance(edge, VideoSegmenter)
    assert edge.description == "edgetam, transformers on cpu, float32"


def test_it_is_used_where_there_is_no_sam_2_of_that_size(edge_folder, hub_folder):
    assert sam_status.problem("sam2", "tiny", [edge_folder]) == ""
    assert sam_status.sizes_here("sam2", [edge_folder]) == ["tiny"]
    assert sam_status.found("sam2", "tiny", [edge_folder]).checkpoint.name == "edgetam"
    assert sam_status.found("sam2", "tiny", [edge_folder, hub_folder]).checkpoint.name == "sam2.1-tiny"


def test_an_image_becomes_the_same_masks_on_any_number_of_threads(edge, torch, truck):
    alone = edge.segment([View(truck)])[0]
    try:
        torch.set_num_threads(2)
        again = edge.segment([View(truck)])[0]
    finally:
        torch.set_num_threads(1)
    assert len(alone) == len(again) > 0
    for ours, theirs in zip(alone, again, strict=True):
        assert ours.mask.shape == truck.shape[:2]
        assert ours.features.shape == (128,)
        assert ours.logits.tobytes() == theirs.logits.tobytes()
        assert ours.features.tobytes() == theirs.features.tobytes()


def test_clicks_boxes_and_masks_each_say_something_else(edge, truck):
    embedding = edge.embed(truck)
    mask = np.zeros(truck.shape[:2], bool)
    mask[50:120, 60:200] = True
    click = Prompt(points_xy=np.array([[150.0, 100]]), point_labels=np.array([1]))
    found = [edge.predict(embedding, each) for each in (click, Prompt(box_xyxy=np.array([60.0, 50, 200, 120])))]
    found.append(edge.predict(embedding, Prompt(mask=mask)))
    assert [len(each) for each in found] == [3, 1, 1]
    assert len({each[0].logits.tobytes() for each in found}) == 3


def test_objects_are_followed_forward_and_backward_each_for_itself(edge, film):
    alone = list(edge.propagate(film(5), BOX))
    other = {(2, 9): Prompt(mask=film(5)[2][:, :, 1] > 100)}
    both = list(edge.propagate(film(5), BOX | other))
    assert [sorted(step.logits) for step in both] == [[1]] * 2 + [[1, 9]] * 3
    assert [step.logits[1].tobytes() for step in both] == [step.logits[1].tobytes() for step in alone]
    assert np.mean((both[2].logits[9] > 0) == other[2, 9].mask) > 0.98
    assert [step.frame for step in edge.propagate(film(5), other, "backward")] == [2, 1, 0]


def test_what_follows_depends_on_what_was_prompted(edge, film):
    elsewhere = {(0, 1): Prompt(mask=film(1)[0][:, :, 1] < 100)}
    ours, theirs = ([step.logits[1] for step in edge.propagate(film(3), each)] for each in (BOX, elsewhere))
    assert np.abs(ours[2].astype(np.float32) - theirs[2].astype(np.float32)).max() > 0


def test_a_long_video_fills_no_memory_and_what_is_forgotten_does_not_matter(edge, film, monkeypatch):
    from pipeline.segmentation.sam2 import transformers_network

    kept, step = [], transformers_network._Memory._step

    def watched(memory, frame, features, reverse):
        out = step(memory, frame, features, reverse)
        kept.append(sum(len(each) for each in memory._session.output_dict_per_obj[0].values()))
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers_network._Memory, "_step", watched)
        bounded = [each.logits[1].tobytes() for each in edge.propagate(film(24), BOX)]
    assert max(kept) == kept[-1] == 18
    monkeypatch.setattr(transformers_network._Memory, "_forget", lambda *_: None)
    assert [each.logits[1].tobytes() for each in edge.propagate(film(24), BOX)] == bounded


def test_what_is_compiled_computes_the_same(edge, edge_folder, truck, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra `sam`)")
    pytest.importorskip("onnx", reason="onnx is not installed (extra `sam`)")
    monkeypatch.setenv("FOVEA_CACHE_DIR", str(tmp_path))
    compiled = Sam2((CRATE,), (edge_folder,), compiled="onnxruntime", selection=FEW)
    assert compiled.description == "edgetam, transformers on cpu, onnxruntime"
    click = Prompt(points_xy=np.array([[150.0, 100]]), point_labels=np.array([1]))
    ours, theirs = (each.predict(each.embed(truck), click) for each in (compiled, edge))
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a.logits - b.logits).max() < 1e-3 * np.abs(b.logits).max()


def test_neither_timm_nor_torchvision_is_asked_for(edge_folder, truck, monkeypatch):
    for absent in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, absent, None)  # importing it is an ImportError
    edge = Sam2((CRATE,), (edge_folder,), compiled="no", selection=FEW)
    assert edge.segment([View(truck)])[0]


def test_the_position_code_may_be_saved_under_one_of_its_names(copied, edge, truck, torch):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    del tensors["prompt_encoder.shared_embedding.positional_embedding"]
    save_file(tensors, copied / "model.safetensors")
    again = Sam2((CRATE,), (copied.parent,), compiled="no", selection=FEW)
    click = Prompt(points_xy=np.array([[150.0, 100]]), point_labels=np.array([1]))
    ours, theirs = (each.predict(each.embed(truck), click) for each in (again, edge))
    assert [each.logits.tobytes() for each in ours] == [each.logits.tobytes() for each in theirs]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda each: each.pop("vision_encoder.backbone.timm_model.stem.conv1.c.weight"), "1 of its tensors are miss"),
        (lambda each: each.update(head=each["no_object_pointer"].clone()), r"1 of its tensors .* \(head first\)"),
        (lambda each: each.update(no_object_pointer=each["no_object_pointer"][:, 1:].clone()), "no_object_pointer is "),
    ],
)
def test_tensors_that_are_not_its_own_are_refused(copied, torch, change, sentence):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    change(tensors)
    save_file(tensors, copied / "model.safetensors")
    with pytest.raises(SegmenterUnavailableError, match=r"EdgeTAM-hf/model.safetensors belongs to .*" + sentence):
        Sam2((CRATE,), (copied.parent,))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda each: each["vision_config"]["backbone_config"].update(architecture="resnet50"), "'resnet50'"),
        (lambda each: each["vision_config"]["backbone_config"]["model_args"].update(out_indices=[0, 1]), r"\[0, 1\]"),
        (lambda each: each.update(vision_config=None), "NoneType"),
        (lambda each: each.update(image_size="wide"), "image_size"),
    ],
)
def test_a_configuration_of_something_else_is_refused(copied, change, sentence):
    settings = edgetam_settings()
    change(settings)
    (copied / "config.json").write_text(json.dumps(settings))
    with pytest.raises(SegmenterUnavailableError, match=r"EdgeTAM-hf: the weights do not fit its config.json: .*"):
        Sam2((CRATE,), (copied.parent,))
    with pytest.raises(SegmenterUnavailableError, match=sentence):
        Sam2((CRATE,), (copied.parent,))


def test_the_folder_of_another_model_is_refused(copied):
    settings = edgetam_settings() | {"model_type": "sam2_video"}
    (copied / "config.json").write_text(json.dumps(settings))
    with pytest.raises(SegmenterUnavailableError, match=r"'sam2_video', edgetam has edgetam_video"):
        weights.check(weights.find("edgetam", [copied.parent]))


def test_the_full_encoder_has_the_names_and_shapes_of_timms(torch):
    """Their number and hash were taken from timm 1.0.31, `create_model("repvit_m1", features_only=True)`."""
    from pipeline.segmentation.sam2 import repvit

    tensors = repvit.RepVit(repvit.RepVitConfig()).state_dict()
    lines = sorted(f"{name} {tuple(each.shape)}" for name, each in tensors.items())
    assert len(lines) == 676
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith("9780ee79045f6fcb6e2bd1921563657d")


def test_the_full_encoder_computes_what_timms_computes(torch):
    from pipeline.segmentation.sam2 import repvit

    theirs = timm().create_model("repvit_m1", pretrained=False, features_only=True, out_indices=(0, 1, 2, 3)).eval()
    ours = repvit.RepVit(repvit.RepVitConfig()).eval()
    tensors = stirred(torch, theirs.state_dict())
    theirs.load_state_dict(tensors)
    ours.timm_model.load_state_dict(tensors)
    pixels = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pairs = list(zip(ours(pixels).last_hidden_state, theirs(pixels), strict=True))
    assert [a.shape[1] for a, _ in pairs] == list(repvit.CHANNELS)
    for a, b in pairs:
        assert b.isfinite().all()
        assert b.std() > 0
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_the_whole_model_is_the_one_that_transformers_builds_with_timm(torch, edge_folder):
    timm()
    from transformers import EdgeTamVideoModel

    folder = edge_folder / "EdgeTAM-hf"
    theirs, told = EdgeTamVideoModel.from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    ours = Sam2((CRATE,), (edge_folder,), compiled="no")._network.model
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps = [each.eval().vision_encoder(pixels, return_dict=True).fpn_hidden_states for each in (ours, theirs)]
    for a, b in zip(*maps, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
