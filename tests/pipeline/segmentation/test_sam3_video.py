"""SAM 3 with its tracker, of the smallest size with random weights: clicks, objects through video, text to tracks."""

import json
import shutil

import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, Interactive, Prompt, Segmenter, VideoSegmenter, View
from tests.pipeline.segmentation.tiny_sam import SAM3_SIDE, save_sam3

TRUCK = ClassSpec(1, "truck", text_prompt="a red truck")
TREE = ClassSpec(5, "tree", text_prompt="tree")
BOX = Prompt(box_xyxy=np.array([20.0, 30, 50, 60]))
CORNER = Prompt(points_xy=np.array([[140.0, 80]]), point_labels=np.array([1]))


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(autouse=True)
def _on_whatever_is_here(monkeypatch):
    monkeypatch.delenv("FOVEA_DEVICE", raising=False)


@pytest.fixture(scope="module")
def folder(torch, tmp_path_factory):
    """A models folder with sam3/ as published: detector and tracker in one file."""
    return save_sam3(torch, tmp_path_factory.mktemp("models"), tracker=True)


@pytest.fixture(scope="module")
def sam(folder):
    return registry.load("sam3", [TRUCK, TREE], [folder])


@pytest.fixture
def detector_folder(folder, tmp_path):
    """The same detector, saved without the tracker."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "sam3", tmp_path / "sam3")
    path = tmp_path / "sam3" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text())["detector_config"]))
    weights, prefix = tmp_path / "sam3" / "model.safetensors", "detector_model."
    detector = {name.removeprefix(prefix): each for name, each in load_file(weights).items() if name.startswith(prefix)}
    save_file(detector, weights)
    return tmp_path


def bytes_of(steps, each=1):
    return [step.logits[each].tobytes() for step in steps]


def test_it_has_all_three_powers(sam):
    assert isinstance(sam, Segmenter)
    assert isinstance(sam, Interactive)
    assert isinstance(sam, VideoSegmenter)


def test_its_tracks_are_those_of_the_library_on_the_whole_video(sam, folder, torch, film):
    """The library's tracker read from the same folder, with all frames in memory and an encoder of its own."""
    from transformers import Sam3TrackerVideoModel
    from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoInferenceSession

    from pipeline.segmentation.sam2.network import pixels_of

    frames, half = film(6), (0.5, 0.5, 0.5)
    model = Sam3TrackerVideoModel.from_pretrained(folder / "sam3", dtype=torch.float32).eval()
    video = torch.cat([pixels_of(frames[each], SAM3_SIDE, torch.device("cpu"), half, half) for each in range(6)])
    session = Sam3TrackerVideoInferenceSession(video=video, video_height=96, video_width=160, dtype=torch.float32)
    session.obj_id_to_idx(1)
    corners = torch.tensor([[20.0, 30], [50, 60]]) * torch.tensor([SAM3_SIDE / 160, SAM3_SIDE / 96])
    clicks = {"point_coords": corners[None, None], "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32)}
    session.add_point_inputs(0, 0, clicks)
    session.obj_with_new_inputs = [1]
    with torch.inference_mode():
        theirs = [model(inference_session=session, frame_idx=each) for each in range(6)]
    for step, expected in zip(sam.propagate(frames, {(0, 1): BOX}), theirs, strict=True):
        plane = torch.nn.functional.interpolate(expected.pred_masks.reshape(1, 1, 32, 32), (96, 160), mode="bilinear")
        assert np.mean((step.logits[1] > 0) == (plane[0, 0] > 0).numpy()) > 0.999
        assert step.confidence[1] == pytest.approx(float(expected.object_score_logits.sigmoid()), abs=1e-5)


def test_a_click_has_three_candidates_and_more_than_a_click_one(sam, film):
    embedding = sam.embed(film(1)[0])
    mask = np.zeros((96, 160), bool)
    mask[30:60, 20:50] = True
    proposals = [sam.predict(embedding, each) for each in (CORNER, BOX, Prompt(mask=mask))]
    assert [len(each) for each in proposals] == [3, 1, 1]
    assert all(each[0].logits.shape == (96, 160) for each in proposals)
    assert len({each[0].logits.tobytes() for each in proposals}) == 3
    again = sam.predict(embedding, BOX)[0]
    assert np.array_equal(again.logits, proposals[1][0].logits)


def test_objects_are_followed_both_ways_each_from_its_own_first_prompt(sam, film):
    frames = film(6)
    forward = list(sam.propagate(frames, {(1, 5): BOX, (3, 2): CORNER}))
    assert [(step.frame, sorted(step.logits)) for step in forward] == [
        (1, [5]),
        (2, [5]),
        (3, [2, 5]),
        (4, [2, 5]),
        (5, [2, 5]),
    ]
    assert all(each.shape == (96, 160) and each.dtype == np.float16 for each in forward[-1].logits.values())
    backward = sam.propagate(frames, {(3, 1): BOX}, "backward")
    assert [step.frame for step in backward] == [3, 2, 1, 0]


def test_a_mask_given_as_a_prompt_is_the_mask_of_that_frame(sam, film):
    mask = np.zeros((96, 160), bool)
    mask[30:60, 20:50] = True
    step = next(iter(sam.propagate(film(2), {(0, 1): Prompt(mask=mask)})))
    assert np.mean((step.logits[1] > 0) == mask) > 0.97
    assert step.confidence[1] > 0.99


def test_what_the_text_prompts_find_is_followed_through_the_video(sam, film):
    frames = film(3)
    prompts, instances = sam.found(frames[1], 1, least=0.3)
    assert instances
    assert list(prompts) == [(1, number) for number in instances]
    assert {each.class_id for each in instances.values()} <= {TRUCK.id, TREE.id}
    assert all(each.confidence >= 0.3 for each in instances.values())
    for step in sam.propagate(frames, prompts):
        assert list(step.logits) == list(instances)
        if step.frame == 1:
            for number, each in instances.items():
                assert np.mean((step.logits[number] > 0) == each.mask) > 0.95
    assert sam.found(frames[1], 1, least=1.0) == ({}, {})


def test_an_object_does_not_care_which_others_there_are(sam, film):
    frames, one = film(4), {(0, 1): BOX}
    alone = bytes_of(sam.propagate(frames, one))
    assert bytes_of(sam.propagate(frames, one | {(1, 2): CORNER})) == alone


def test_a_long_video_fills_no_memory_and_what_is_forgotten_would_not_have_mattered(sam, film, monkeypatch):
    from pipeline.segmentation.sam2 import transformers_network

    kept, forget = [], transformers_network._Memory._forget

    def watched(memory, frame):
        forget(memory, frame)
        kept.append(sum(len(each) for each in memory._session.output_dict_per_obj[0].values()))
        assert not memory._session.cache._vision_features

    monkeypatch.setattr(transformers_network._Memory, "_forget", watched)
    frames, prompts = film(21), {(0, 1): BOX}
    bounded = bytes_of(sam.propagate(frames, prompts))
    assert frames.read == list(range(21))
    assert max(kept) == kept[-1] == 18
    monkeypatch.setattr(transformers_network._Memory, "_forget", lambda *_: None)
    assert bytes_of(sam.propagate(frames, prompts)) == bounded


def test_a_frame_that_cannot_be_read_is_left_out_and_the_others_go_on(sam, film):
    steps = sam.propagate(film(4, broken=2), {(0, 1): BOX})
    assert [len(step.logits) for step in steps] == [1, 1, 0, 1]


def test_the_detector_saved_alone_finds_the_same_and_says_what_it_lacks(sam, detector_folder, film):
    alone = registry.load("sam3", [TRUCK, TREE], [detector_folder])
    frames = film(1)
    ours, theirs = (each.segment([View(frames[0])])[0] for each in (sam, alone))
    assert ours
    assert [each.logits.tobytes() for each in ours] == [each.logits.tobytes() for each in theirs]
    for attempt in (lambda: alone.embed(frames[0]), lambda: alone.propagate(frames, {(0, 1): BOX})):
        with pytest.raises(SegmenterUnavailableError, match="those of the detector alone"):
            attempt()


def test_a_file_that_lacks_the_tracker_it_announces_is_refused(folder, detector_folder):
    shutil.copy(folder / "sam3" / "config.json", detector_folder / "sam3" / "config.json")
    with pytest.raises(SegmenterUnavailableError, match="belong to another model"):
        registry.load("sam3", [TRUCK], [detector_folder])


@pytest.mark.gpu
def test_on_a_gpu_it_follows_what_it_finds(folder, torch, film, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")
    monkeypatch.setenv("FOVEA_DEVICE", "cuda")
    gpu = registry.load("sam3", [TRUCK], [folder])
    assert gpu.description == "sam3, transformers on cuda, bfloat16"
    assert len(gpu.predict(gpu.embed(film(1)[0]), CORNER)) == 3
    assert [sorted(step.logits) for step in gpu.propagate(film(3), {(0, 1): BOX})] == [[1]] * 3
