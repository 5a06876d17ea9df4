import weakref

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.segmentation.base import Interactive, Prompt, VideoSegmenter
from pipeline.segmentation.classical import Classical


def iou(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(scope="module")
def schoolgirls(data_folder):
    """Ten real frames and the masks of their seven objects."""
    folder = data_folder / "vos_schoolgirls"
    with av.open(str(folder / "schoolgirls.mp4")) as container:
        frames = [
            frame.to_ndarray(format="bgr24") for frame, _ in zip(container.decode(video=0), range(10), strict=False)
        ]
    return frames, [np.array(Image.open(folder / "schoolgirls_mask" / f"{i:05d}.png")) for i in range(10)]


def crossing(count: int = 5, size=(90, 120)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A striped square that walks over a noisy ground, and where it is."""
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.integers(60, 140, (*size, 3), np.uint8), (0, 0), 1.5)
    frames, masks = [], []
    for step in range(count):
        mask = np.zeros(size, bool)
        mask[30:60, 20 + 4 * step : 50 + 4 * step] = True
        frame = ground.copy()
        frame[mask] = np.tile(np.repeat([[[30, 60, 220]], [[220, 200, 40]]], 5, axis=0), (3, 30, 1)).reshape(-1, 3)
        frames.append(frame)
        masks.append(mask)
    return frames, masks


def box_around(mask) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def test_it_has_two_powers():
    assert isinstance(Classical(), Interactive)
    assert isinstance(Classical(), VideoSegmenter)


def test_a_box_becomes_the_mask_of_what_is_in_it(schoolgirls):
    frames, labels = schoolgirls
    segmenter = Classical()
    girl = labels[0] == 3
    found = segmenter.predict(segmenter.embed(frames[0]), Prompt(box_xyxy=box_around(girl)))
    assert len(found) == 1
    assert iou(found[0].logits > 0, girl) > 0.5
    assert found[0].logits.dtype == np.float32
    assert 0.3 < found[0].quality < 0.8


def test_clicks_correct_a_box():
    frames, masks = crossing()
    segmenter = Classical()
    embedding = segmenter.embed(frames[0])
    box = box_around(masks[0])
    corner = np.array([[22.0, 32.0], [47.0, 57.0]])
    for labels in ([0, 1], [1, 0]):
        logits = segmenter.predict(embedding, Prompt(corner, np.array(labels), box_xyxy=box))[0].logits
        for (x, y), label in zip(corner.astype(int), labels, strict=True):
            assert (logits[y, x] > 0) == label
    assert (logits[:, 60:] < 0).all()


def test_a_click_gives_a_proposal_for_each_reach_best_first():
    frames, masks = crossing()
    segmenter = Classical()
    found = segmenter.predict(segmenter.embed(frames[0]), Prompt(points_xy=np.array([[35.0, 45.0]])))
    assert len(found) == 3
    qualities = [each.quality for each in found]
    assert qualities == sorted(qualities, reverse=True)
    assert max(iou(each.logits > 0, masks[0]) for each in found) > 0.7


def test_a_mask_is_drawn_to_the_edges_of_a_large_image(data_folder):
    truck = cv2.imread(str(data_folder / "video_sam2" / "truck.jpg"))
    segmenter = Classical()
    box = np.array([90, 270, 1710, 860]) * truck.shape[1] / 1800
    logits = segmenter.predict(segmenter.embed(truck), Prompt(box_xyxy=box))[0].logits
    assert logits.shape == truck.shape[:2]
    mask = logits > 0
    assert 0.25 < mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].mean() < 0.95
    assert not mask[: int(box[1] * 0.8)].any()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "needs a mask, a box, or at least one click"),
        (Prompt(np.array([[5.0, 5.0]]), np.array([0])), "at least one click on the object"),
        (Prompt(np.array([[500.0, 5.0]]), np.array([1])), "outside the image of 120 by 90"),
        (Prompt(np.array([[5.0, 5.0]]), np.array([1, 0])), "1 points do not go with 2 point_labels"),
        (Prompt(box_xyxy=np.array([200.0, 10, 220, 20])), "nothing of it lies in the image"),
        (Prompt(box_xyxy=np.array([0, 10, np.nan, 20])), "four finite numbers"),
        (Prompt(mask=np.ones((4, 4), bool)), r"its shape \(4, 4\) is not that of the image"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_refused(prompt, message):
    segmenter = Classical()
    with pytest.raises(ValueError, match=message):
        segmenter.predict(segmenter.embed(crossing()[0][0]), prompt)


@pytest.mark.parametrize("image", [np.zeros((60, 80, 3), np.uint8), np.full((60, 80, 3), 255, np.uint8)])
def test_an_image_without_anything_in_it_gives_some_mask_and_no_error(image):
    segmenter = Classical()
    for prompt in (Prompt(box_xyxy=np.array([10.0, 10, 40, 40])), Prompt(points_xy=np.array([[20.0, 20.0]]))):
        for found in segmenter.predict(segmenter.embed(image), prompt):
            assert np.isfinite(found.logits).all()
            assert 0 <= found.quality <= 1


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_seven_real_objects_are_carried_both_ways(schoolgirls, direction):
    frames, labels = schoolgirls
    start, end = (0, 9) if direction == "forward" else (9, 0)
    ids = [int(each) for each in np.unique(labels[start]) if each]
    prompts = {(start, each): Prompt(mask=labels[start] == each) for each in ids}
    found = list(Classical().propagate(frames, prompts, direction))
    assert [each.frame for each in found] == [*range(start, end, 1 if end else -1), end]
    assert all(each.logits[1].dtype == np.float16 for each in found)
    assert np.mean([iou(found[-1].logits[each] > 0, labels[end] == each) for each in ids]) > 0.7
    assert sum(logits > 0 for logits in found[-1].logits.values()).max() == 1
    assert all(0 <= sure <= 1 for each in found for sure in each.confidence.values())


def test_an_object_may_be_shown_later_and_corrected_by_clicks():
    frames, masks = crossing()
    wrong = np.zeros_like(masks[0])
    wrong[5:20, 80:110] = True
    prompts = {
        (0, 7): Prompt(mask=wrong),
        (1, 4): Prompt(mask=masks[1]),
        (3, 4): Prompt(np.array([[47.0, 45.0]]), np.array([1])),
    }
    found = list(Classical().propagate(frames, prompts))
    assert [sorted(each.logits) for each in found] == [[7], [4, 7], [4, 7], [4, 7], [4, 7]]
    assert iou(found[1].logits[4] > 0, masks[1]) == 1
    assert iou(found[4].logits[4] > 0, masks[4]) > 0.8


def test_a_video_larger_than_the_working_size_keeps_its_own():
    frames, masks = crossing()
    large = [cv2.resize(frame, (960, 720), interpolation=cv2.INTER_CUBIC) for frame in frames[:3]]
    whole = [cv2.resize(mask.astype(np.uint8), (960, 720), interpolation=cv2.INTER_NEAREST) > 0 for mask in masks[:3]]
    found = list(Classical().propagate(large, {(0, 1): Prompt(mask=whole[0])}))
    assert found[2].logits[1].shape == (720, 960)
    assert iou(found[2].logits[1] > 0, whole[2]) > 0.9


def test_only_a_few_frames_are_held_at_a_time():
    class Reader:
        def __init__(self):
            self.alive = []
            self.most = 0

        def __len__(self):
            return 12

        def __getitem__(self, index):
            frame = crossing(12)[0][index]
            self.alive = [each for each in self.alive if each() is not None] + [weakref.ref(frame)]
            self.most = max(self.most, len(self.alive))
            return frame

    reader = Reader()
    for _ in Classical().propagate(reader, {(0, 1): Prompt(mask=crossing()[1][0])}):
        pass
    assert reader.most <= 3


def test_any_number_of_threads_gives_the_same_bytes(schoolgirls):
    frames, labels = schoolgirls
    prompts = {(0, 3): Prompt(mask=labels[0] == 3), (0, 5): Prompt(box_xyxy=box_around(labels[0] == 5))}
    before = cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            found = list(Classical().propagate(frames[:4], prompts))
            results.append([each.logits[key].tobytes() for each in found for key in each.logits])
    finally:
        cv2.setNumThreads(before)
    assert results[0] == results[1]


def test_prompts_and_frames_that_do_not_fit_are_refused():
    frames, masks = crossing()
    segmenter = Classical()
    with pytest.raises(ValueError, match="at least one object"):
        segmenter.propagate(frames, {})
    with pytest.raises(ValueError, match="frame 9 is not one of the 5 frames"):
        segmenter.propagate(frames, {(9, 1): Prompt(mask=masks[0])})
    with pytest.raises(ValueError, match="frame 1 has shape"):
        list(segmenter.propagate([frames[0], frames[1][:50]], {(0, 1): Prompt(mask=masks[0])}))
