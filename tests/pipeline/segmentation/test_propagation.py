import cv2
import numpy as np
import pytest

from pipeline.segmentation.appearance import Background, Grid, Palette, Template, likelihoods
from pipeline.segmentation.propagation import EdgeGuide, Propagator


@pytest.fixture(scope="module")
def groceries(data_folder):
    image = cv2.imread(str(data_folder / "video_sam2" / "groceries.jpg"))
    assert image is not None
    return cv2.resize(image, (240, 160), interpolation=cv2.INTER_AREA)


def disc(shape, centre, radius) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.circle(mask, centre, radius, 1, -1)
    return mask > 0


def iou(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


def test_every_pixel_has_the_colour_of_the_palette_that_is_nearest(groceries):
    palette = Palette(groceries.reshape(-1, 3))
    index = palette.of(groceries)
    near = np.abs(palette._colours[index] - groceries).max(axis=2)
    assert index.shape == groceries.shape[:2]
    assert index.max() < len(palette) <= 64
    assert np.median(near) < 12


def test_counts_made_before_colours_were_added_keep_their_meaning(groceries):
    palette = Palette(groceries[:, :120].reshape(-1, 3), 8)
    before = len(palette)
    pink = np.full((50, 3), (180, 80, 255), np.uint8)
    palette.add(pink, 4)
    assert len(palette) > before
    assert palette.widened(np.ones((2, 2, before))).sum(axis=(0, 1)).tolist() == [4] * before + [0] * (
        len(palette) - before
    )
    assert palette.of(pink[None]).min() >= before


def test_smoothing_over_like_colours_loses_no_count(groceries):
    palette = Palette(groceries.reshape(-1, 3))
    counts = np.random.default_rng(0).random((3, 4, len(palette))).astype(np.float32)
    np.testing.assert_allclose(palette.spread(counts).sum(axis=2), counts.sum(axis=2), rtol=1e-4)


def test_likelihoods_are_probabilities_that_know_where_a_colour_lies(groceries):
    palette = Palette(groceries.reshape(-1, 3))
    counts = np.zeros((9, 9, len(palette)), np.float32)
    counts[:4, :, 0] = counts[5:, :, -1] = 10
    found = likelihoods(counts, palette, 0.8, 0.1, 0.1)
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=1e-3)
    assert found[1, 4, 0] > 3 * found[7, 4, 0]
    assert found[7, 4, -1] > 3 * found[1, 4, -1]


@pytest.mark.parametrize("centre", [(60.0, 50.0), (2.0, 3.0), (118.5, 79.2), (-400.0, 20.0)])
def test_a_grid_covers_every_pixel_near_its_object_wherever_it_goes(centre):
    grid = Grid.around(disc((80, 120), (60, 40), 20))
    grid.centre = np.array(centre)
    found = grid.window((80, 120))
    near = disc((80, 120), (round(centre[0]), round(centre[1])), 18)
    if found is None:
        assert not near.any()
        return
    window, cells = found
    covered = np.zeros((80, 120), bool)
    covered[window] = True
    assert covered[near].all()
    assert cells.shape == covered[window].shape
    assert cells.min() >= 0
    assert cells.max() < grid.side**2


def test_a_template_finds_its_object_where_it_has_moved_to(groceries):
    lab = cv2.cvtColor(groceries, cv2.COLOR_BGR2LAB)
    palette = Palette(lab.reshape(-1, 3))
    mask = disc(groceries.shape[:2], (90, 80), 25)
    template = Template(mask, palette.of(lab), palette)
    moved = np.roll(lab, 40, axis=1)
    table = template.table(palette, 0.5)

    def fit() -> float:
        window, cells = template.grid.window(mask.shape)
        return float(
            np.log(table[cells, palette.of(moved)[window]] + 0.01)[template.shape.reshape(-1)[cells] > 0.5].mean()
        )

    stayed = fit()
    template.grid.centre = template.grid.centre + np.array([40, 0])
    assert fit() > stayed + 0.5


@pytest.mark.parametrize("shift", [(0, 0), (31, 0), (-17, 12)])
def test_the_background_is_recognised_after_the_camera_panned(groceries, shift):
    lab = cv2.cvtColor(groceries, cv2.COLOR_BGR2LAB)
    palette = Palette(lab.reshape(-1, 3))
    background = Background(np.ones(groceries.shape[:2], np.float32), palette.of(lab), palette)
    panned = palette.of(np.roll(lab, shift, axis=(1, 0)))
    inside = np.s_[40:120, 50:190]
    before = background.likelihood(panned, palette)[inside].mean()
    for _ in range(2):
        background.pan(np.array(shift) / 2)
    after = background.likelihood(panned, palette)[inside].mean()
    assert after > 1.5 * before if shift != (0, 0) else after == before


def test_the_guided_filter_draws_values_to_edges_also_of_a_finer_image():
    fine = np.zeros((120, 160, 3), np.uint8)
    fine[:, 83:] = 200
    coarse = cv2.resize(fine, (80, 60), interpolation=cv2.INTER_AREA)
    rough = np.zeros((60, 80), np.float32)
    rough[:, 39:] = 1  # off by two and a half pixels
    drawn = EdgeGuide(coarse, 6, 1e-3)(rough, fine)
    assert drawn.shape == (120, 160)
    assert np.abs(np.flatnonzero(drawn[60] > 0.5)[0] - 83) <= 1
    np.testing.assert_allclose(EdgeGuide(coarse, 3, 1e-3)(np.full((60, 80), 0.3, np.float32)), 0.3, atol=1e-4)


def scene(groceries, at) -> tuple[np.ndarray, np.ndarray]:
    """A patterned disc before the picture, and where it is."""
    mask = disc(groceries.shape[:2], at, 22)
    frame = groceries.copy()
    pattern = np.roll(groceries[::-1, ::-1], (at[1], at[0]), axis=(0, 1))
    frame[mask] = 255 - pattern[mask] // 2
    return frame, mask


def test_an_object_is_followed_over_a_real_background(groceries):
    frame, mask = scene(groceries, (50, 80))
    propagator = Propagator(frame)
    propagator.place({3: mask})
    for step in range(1, 9):
        frame, mask = scene(groceries, (50 + 5 * step, 80 + step))
        propagator.step(frame)
    logits = propagator.logits()[3]
    assert iou(logits > 0, mask) > 0.9
    assert propagator.confidences()[3] > 0.6
    assert np.abs(logits).max() <= 8


def test_what_was_hidden_is_found_again_and_was_not_trusted_meanwhile(groceries):
    curtain = np.s_[:, 105:165]
    sure = []
    propagator = None
    for step in range(22):
        frame, mask = scene(groceries, (60 + 7 * step, 80))
        frame[curtain] = (40, 90, 60)
        mask[curtain] = False
        if propagator is None:
            propagator = Propagator(frame)
            propagator.place({1: mask})
        else:
            propagator.step(frame)
        sure.append(propagator.confidences()[1])
    hidden = range(10, 12)
    assert max(sure[step] for step in hidden) < 0.3
    assert min(sure[:4]) > 0.6
    assert iou(propagator.logits()[1] > 0, mask) > 0.7


def test_objects_compete_for_every_pixel(groceries):
    frame, mask = scene(groceries, (90, 80))
    left, right = mask.copy(), mask.copy()
    left[:, 90:] = False
    right[:, :90] = False
    propagator = Propagator(frame)
    propagator.place({1: left, 2: right})
    propagator.step(scene(groceries, (93, 80))[0])
    logits = propagator.logits()
    assert not ((logits[1] > 0) & (logits[2] > 0)).any()
    assert iou((logits[1] > 0) | (logits[2] > 0), scene(groceries, (93, 80))[1]) > 0.9


def test_an_object_placed_again_starts_anew_and_an_empty_mask_ends_it(groceries):
    frame, mask = scene(groceries, (90, 80))
    propagator = Propagator(frame)
    propagator.place({1: disc(mask.shape, (200, 30), 15), 2: disc(mask.shape, (30, 130), 12)})
    propagator.place({1: mask})
    assert iou(propagator.logits()[1] > 0, mask) == 1
    propagator.step(scene(groceries, (94, 80))[0])
    assert iou(propagator.logits()[1] > 0, scene(groceries, (94, 80))[1]) > 0.85
    propagator.place({2: np.zeros_like(mask)})
    assert list(propagator.logits()) == [1]


def test_following_nothing_is_refused(groceries):
    with pytest.raises(ValueError, match="no object has been placed"):
        Propagator(groceries).step(groceries)
