"""The detector of SAM 3, a real model of the smallest size: random weights, every part of it."""

import shutil

import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, Segmenter, View
from tests.pipeline.segmentation.tiny_sam import save_sam3

TRUCK = ClassSpec(1, "truck", text_prompt="a red truck")
TREE = ClassSpec(5, "tree", text_prompt="tree")


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def folder(torch, tmp_path_factory):
    """A models folder with sam3/ as the hub gives it: configuration, weights, tokenizer."""
    return save_sam3(torch, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sam(folder):
    return registry.load("sam3", [TRUCK, TREE], [folder])


@pytest.fixture(scope="module")
def truck(data_folder):
    import cv2

    return cv2.resize(cv2.imread(str(data_folder / "video_sam2" / "truck.jpg")), (300, 200))


def test_prompts_become_instances_with_class_and_score(sam, truck):
    assert isinstance(sam, Segmenter)
    assert sam.description == "sam3, transformers on cpu, float32"
    instances = sam.segment([View(truck)])[0]
    assert instances
    assert [each.confidence for each in instances] == sorted((each.confidence for each in instances), reverse=True)
    for each in instances:
        assert each.mask.shape == each.logits.shape == (200, 300)
        assert np.array_equal(each.mask, each.logits > 0)
        assert each.class_id in (1, 5)
        assert each.class_scores[each.class_id] == each.confidence == max(each.class_scores.values())
        assert 0 < sum(each.class_scores.values()) <= 1 + 1e-9
        assert 0 <= each.stability <= 1
        assert each.features.shape == (32,)


def test_what_is_asked_for_changes_what_is_found(folder, truck):
    found = []
    for prompt in ("a red truck", "house"):
        sam = registry.load("sam3", [ClassSpec(3, "thing", text_prompt=prompt)], [folder])
        instances = sam.segment([View(truck)])[0]
        assert {each.class_id for each in instances} == {3}
        found.append([each.confidence for each in instances])
    assert found[0] != found[1]


def test_two_prompts_that_find_the_same_share_it(folder, truck):
    """The same words twice: every object is found twice, and given once."""
    once = registry.load("sam3", [TRUCK], [folder]).segment([View(truck)])[0]
    twin = ClassSpec(9, "lorry", text_prompt="a red truck")
    twice = registry.load("sam3", [TRUCK, twin], [folder]).segment([View(truck)])[0]
    assert len(once) == len(twice)
    for each in twice:
        assert set(each.class_scores) == {1, 9}
        assert each.class_scores[1] == pytest.approx(each.class_scores[9], abs=1e-6)


def test_the_same_frames_give_the_same_bytes_in_any_batch_and_on_any_number_of_threads(sam, torch, truck):
    alone = sam.segment([View(truck)])[0]
    try:
        torch.set_num_threads(2)
        together = sam.segment([View(np.zeros_like(truck)), View(truck)])[1]
    finally:
        torch.set_num_threads(1)
    assert [(a.confidence, a.logits.tobytes()) for a in alone] == [(b.confidence, b.logits.tobytes()) for b in together]


def test_a_class_without_prompt_is_refused_when_the_job_is_made(folder):
    silent = ClassSpec(2, "crate")
    for attempt in (
        lambda: registry.choose("sam3", metric_stereo=False, classes=[TRUCK, silent], models_folders=[folder]),
        lambda: registry.load("sam3", [TRUCK, silent], [folder]),
    ):
        with pytest.raises(SegmenterUnavailableError, match="give the label class “crate” a text prompt"):
            attempt()
    assert registry.choose("sam3", metric_stereo=False, classes=[TRUCK], models_folders=[folder]) == "sam3"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("tokenizer.json", None, r"sam3/tokenizer.json, which turns text prompts into tokens, is not there"),
        ("tokenizer.json", b"{}", r"sam3/tokenizer.json is damaged"),
        ("model.safetensors", b"cut", r"sam3/model.safetensors is damaged or cut short"),
        ("config.json", b'{"model_type": "sam2_video"}', r"sam3/config.json belongs to another model"),
        ("model.safetensors", None, r"sam3/model.safetensors is in none of the folders of FOVEA_MODELS_DIR"),
    ],
)
def test_bad_files_are_named(folder, tmp_path, file, content, sentence):
    shutil.copytree(folder / "sam3", tmp_path / "sam3")
    path = tmp_path / "sam3" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SegmenterUnavailableError, match=sentence):
        registry.load("sam3", [TRUCK], [tmp_path])


def test_any_shape_and_a_black_frame_will_do(sam):
    for shape in ((1, 1), (2, 300), (112, 112)):
        for each in sam.segment([View(np.zeros((*shape, 3), np.uint8))])[0]:
            assert each.mask.shape == shape
