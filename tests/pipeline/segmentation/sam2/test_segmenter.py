import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.automatic_masks import Selection
from pipeline.segmentation.base import ClassSpec, Interactive, Prompt, Segmenter, VideoSegmenter, View
from pipeline.segmentation.sam2.segmenter import Sam2, pooled

CRATE = ClassSpec(4, "crate")
FEW = Selection(points_per_side=6, quality=0.5, stability=0.5)


@pytest.fixture(scope="module")
def sam(hub_folder):
    return Sam2((CRATE,), (hub_folder,), compiled="no", selection=FEW)


def same(a, b):
    return (a.confidence, a.stability, a.mask.tobytes(), a.logits.tobytes(), a.features.tobytes()) == (
        *(b.confidence, b.stability, b.mask.tobytes(), b.logits.tobytes(), b.features.tobytes()),
    )


def test_it_has_all_three_powers(sam):
    assert isinstance(sam, Segmenter)
    assert isinstance(sam, Interactive)
    assert isinstance(sam, VideoSegmenter)
    assert sam.description == "sam2.1-tiny, transformers on cpu, float32"


def test_an_image_becomes_masks_with_all_that_is_known_of_them(sam, truck):
    instances = sam.segment([View(truck)])[0]
    assert instances
    assert [each.confidence for each in instances] == sorted((each.confidence for each in instances), reverse=True)
    for each in instances:
        assert each.mask.shape == each.logits.shape == truck.shape[:2]
        assert each.logits.dtype == np.float16
        assert np.array_equal(each.mask, each.logits > 0)
        assert each.mask.any()
        assert each.class_id == 4
        assert each.class_scores == {4: each.confidence}
        assert 0.5 <= each.quality <= 1
        assert 0.5 <= each.stability <= 1
        assert each.features.shape == (128,)
        assert each.features.dtype == np.float32


def test_several_classes_share_a_mask_until_a_class_head_decides(hub_folder, truck):
    sam = Sam2((CRATE, ClassSpec(7, "barrel")), (hub_folder,), compiled="no", selection=FEW)
    best = sam.segment([View(truck)])[0][0]
    assert best.class_scores == {4: best.quality / 2, 7: best.quality / 2}


def test_the_same_frames_give_the_same_bytes_in_any_batch_and_on_any_number_of_threads(sam, torch, truck):
    other = np.ascontiguousarray(truck[:, ::-1])
    alone = [sam.segment([View(each)])[0] for each in (truck, other)]
    try:
        torch.set_num_threads(2)
        together = sam.segment([View(truck), View(other)])
    finally:
        torch.set_num_threads(1)
    for ours, theirs in zip(alone, together, strict=True):
        assert len(ours) == len(theirs)
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (333, 7), (128, 128)])
def test_any_shape_and_a_black_frame_will_do(sam, shape):
    for each in sam.segment([View(np.zeros((*shape, 3), np.uint8))])[0]:
        assert each.mask.shape == shape


def test_a_click_has_three_candidates_best_first(sam, truck):
    proposals = sam.predict(sam.embed(truck), Prompt(points_xy=np.array([[150.0, 100.0]]), point_labels=np.array([1])))
    assert len(proposals) == 3
    assert [each.quality for each in proposals] == sorted((each.quality for each in proposals), reverse=True)
    assert all(each.logits.shape == truck.shape[:2] for each in proposals)
    assert all(each.logits.dtype == np.float32 for each in proposals)


def test_more_than_a_click_leaves_one_candidate(sam, truck):
    embedding = sam.embed(truck)
    mask = np.zeros(truck.shape[:2], bool)
    mask[50:120, 60:200] = True
    two = Prompt(points_xy=np.array([[150.0, 100], [10, 10]]), point_labels=np.array([1, 0]))
    prompts = [two, Prompt(box_xyxy=np.array([60.0, 50, 200, 120])), Prompt(mask=mask)]
    prompts.append(Prompt(points_xy=np.array([[150.0, 100]]), box_xyxy=np.array([60.0, 50, 200, 120]), mask=mask))
    logits = [sam.predict(embedding, prompt) for prompt in prompts]
    assert [len(each) for each in logits] == [1, 1, 1, 1]
    # Each says something else, and an embedding that was used says the same again.
    assert len({each[0].logits.tobytes() for each in logits}) == 4
    assert np.array_equal(sam.predict(embedding, two)[0].logits, logits[0][0].logits)


def test_a_click_means_a_place_in_the_image_not_in_the_input(sam, truck):
    """The same place, clicked in the image and in the image at half its size, gives the same mask (nearly: the input
    is resampled twice)."""
    import cv2

    small = cv2.resize(truck, (150, 100), interpolation=cv2.INTER_AREA)
    click = np.array([[200.0, 120.0]])
    large = sam.predict(sam.embed(truck), Prompt(points_xy=click, point_labels=np.array([1])))
    halved = sam.predict(sam.embed(small), Prompt(points_xy=click / 2, point_labels=np.array([1])))
    a, b = large[0].logits > 0, cv2.resize(halved[0].logits, (300, 200)) > 0
    assert np.mean(a == b) > 0.9


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (Prompt(), "points, a box or a mask"),
        (Prompt(points_xy=np.zeros((0, 2)), point_labels=np.zeros(0, int)), "points, a box or a mask"),
        (Prompt(points_xy=np.zeros((2, 2)), point_labels=np.array([1])), "one label"),
        (Prompt(points_xy=np.zeros((1, 2)), point_labels=np.array([7])), "one label, 0 or 1"),
        (Prompt(points_xy=np.full((1, 2), np.nan), point_labels=np.array([1])), "must be numbers"),
        (Prompt(mask=np.ones((3, 3), bool)), "size of its image, 300x200"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused(sam, truck, prompt, sentence):
    with pytest.raises(ValueError, match=sentence):
        sam.predict(sam.embed(truck), prompt)


def test_out_of_memory_halves_the_batch_and_changes_nothing(sam, torch, truck, monkeypatch):
    undisturbed = sam.segment([View(truck)])[0]
    sizes = []
    decode = type(sam._network).decode

    def tight(network, features, points, labels, mask=None, *, several):
        sizes.append(len(points))
        if len(points) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(network, features, points, labels, mask, several=several)

    monkeypatch.setattr(type(sam._network), "decode", tight)
    again = sam.segment([View(truck)])[0]
    assert sizes[:3] == [16, 8, 4]
    assert set(sizes[2:]) == {4}
    assert len(again) == len(undisturbed)
    for a, b in zip(again, undisturbed, strict=True):
        assert np.mean(a.mask == b.mask) > 0.999


def test_a_single_prompt_that_does_not_fit_costs_the_frame_not_the_job(sam, torch, truck, monkeypatch):
    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(sam._network), "encode", never)
    with pytest.raises(MemoryError, match="not even alone"):
        sam.segment([View(truck)])


def test_cuda_asked_for_and_absent_is_said_at_once(hub_folder, torch, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    monkeypatch.setenv("FOVEA_DEVICE", "cuda")
    with pytest.raises(SegmenterUnavailableError, match=r"FOVEA_DEVICE=cuda asks for CUDA"):
        Sam2((CRATE,), (hub_folder,))
    monkeypatch.setenv("FOVEA_DEVICE", "abacus")
    with pytest.raises(SegmenterUnavailableError, match=r"FOVEA_DEVICE='abacus' is not one of"):
        Sam2((CRATE,), (hub_folder,))


def test_pooled_features_are_the_mean_over_the_mask():
    maps = np.stack([np.arange(16.0).reshape(4, 4), np.ones((4, 4))]).astype(np.float32)
    mask = np.zeros((8, 8), bool)
    mask[:2, :4] = True
    assert np.allclose(pooled(maps, mask), [0.5, 1.0])
    assert not pooled(maps, np.zeros((8, 8), bool)).any()


def prompt_at(film, frame):
    columns = np.flatnonzero(film[frame][40, :, 1] > 100)
    return Prompt(box_xyxy=np.array([columns[0], 30.0, columns[-1] + 1, 60.0]))


def test_objects_are_followed_forward_each_from_its_own_first_prompt(sam, film):
    frames = film(9)
    prompts = {(1, 5): prompt_at(frames, 1), (4, 2): Prompt(points_xy=np.array([[5.0, 5]]), point_labels=np.array([1]))}
    steps = list(sam.propagate(frames, prompts))
    assert [step.frame for step in steps] == list(range(1, 9))
    assert [sorted(step.logits) for step in steps] == [[5]] * 3 + [[2, 5]] * 5
    for step in steps:
        assert step.logits.keys() == step.confidence.keys()
        assert all(each.shape == (96, 160) and each.dtype == np.float16 for each in step.logits.values())
        assert all(0 <= each <= 1 for each in step.confidence.values())


def test_objects_are_followed_backward_to_the_first_frame(sam, film):
    frames = film(6)
    steps = list(sam.propagate(frames, {(4, 1): prompt_at(frames, 4)}, "backward"))
    assert [step.frame for step in steps] == [4, 3, 2, 1, 0]


def test_a_mask_given_as_a_prompt_is_the_mask_of_that_frame(sam, film):
    frames = film(3)
    mask = np.zeros((96, 160), bool)
    mask[30:60, 20:50] = True
    steps = list(sam.propagate(frames, {(0, 1): Prompt(mask=mask)}))
    assert np.mean((steps[0].logits[1] > 0) == mask) > 0.98
    assert steps[0].confidence[1] > 0.99


def test_an_object_does_not_care_which_others_there_are(sam, film):
    frames = film(5)
    one = {(0, 1): prompt_at(frames, 0)}
    two = one | {(2, 2): Prompt(points_xy=np.array([[100.0, 20]]), point_labels=np.array([1]))}
    alone = [step.logits[1].tobytes() for step in sam.propagate(frames, one)]
    assert [step.logits[1].tobytes() for step in sam.propagate(frames, two)] == alone


def test_each_frame_is_read_once_and_a_long_video_fills_no_memory(sam, film, monkeypatch):
    from pipeline.segmentation.sam2 import transformers_network

    kept = []
    step = transformers_network._Memory._step

    def watched(memory, frame, features, reverse):
        out = step(memory, frame, features, reverse)
        outputs = memory._session.output_dict_per_obj[0]
        kept.append(sum(len(each) for each in outputs.values()))
        assert not memory._session.cache._vision_features
        return out

    monkeypatch.setattr(transformers_network._Memory, "_step", watched)
    frames = film(40)
    prompts = {(0, 1): prompt_at(frames, 0)}
    frames.read.clear()
    assert sum(1 for _ in sam.propagate(frames, prompts)) == 40
    assert frames.read == list(range(40))
    assert max(kept) == kept[-1] == 18


def test_what_is_forgotten_would_not_have_mattered(sam, film, monkeypatch):
    from pipeline.segmentation.sam2 import transformers_network

    frames = film(24)
    prompts = {(0, 1): prompt_at(frames, 0)}
    bounded = [step.logits[1].tobytes() for step in sam.propagate(frames, prompts)]
    monkeypatch.setattr(transformers_network._Memory, "_forget", lambda *_: None)
    assert [step.logits[1].tobytes() for step in sam.propagate(frames, prompts)] == bounded


def test_a_frame_that_cannot_be_read_is_left_out_and_the_others_go_on(sam, film):
    frames = film(5, broken=2)
    steps = list(sam.propagate(frames, {(0, 1): prompt_at(frames, 0)}))
    assert [len(step.logits) for step in steps] == [1, 1, 0, 1, 1]


def test_a_prompt_beyond_the_video_is_refused_and_none_is_no_work(sam, film):
    with pytest.raises(ValueError, match="names frame 7, but there are 3"):
        list(sam.propagate(film(3), {(7, 1): Prompt(box_xyxy=np.array([0.0, 0, 5, 5]))}))
    assert list(sam.propagate(film(3), {})) == []


@pytest.mark.gpu
def test_on_a_gpu_all_three_powers_say_nearly_what_a_cpu_says(hub_folder, torch, sam, truck, film, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA here")
    monkeypatch.setenv("FOVEA_DEVICE", "cuda")
    gpu = Sam2((CRATE,), (hub_folder,), selection=FEW)
    assert gpu.description == "sam2.1-tiny, transformers on cuda, bfloat16"
    assert gpu.segment([View(truck)])[0]
    click = Prompt(points_xy=np.array([[150.0, 100.0], [9, 9]]), point_labels=np.array([1, 0]))
    ours, theirs = (each.predict(each.embed(truck), click)[0].logits > 0 for each in (gpu, sam))
    assert np.mean(ours == theirs) > 0.9
    prompts = {(0, 1): prompt_at(film(3), 0)}
    assert [sorted(step.logits) for step in gpu.propagate(film(3), prompts)] == [[1]] * 3
