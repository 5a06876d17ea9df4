import json

import numpy as np
import pytest

from pipeline.geometry.outline import Outline, Outlines, outline_of, place

CAR_WL = (1.8, 4.2)
CENTRE = np.array([1.5, 9.0])
NOISE = 0.005


def seen_from_above(centre, width: float, length: float, yaw: float, *, rows: int = 12) -> np.ndarray:
    """Points (N, 3) on the sides that face a camera at the origin, a row of them at each of `rows` heights."""
    axes = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])  # columns: along, across in (x, z)
    steps = np.linspace(-0.5, 0.5, 300)
    points = []
    for side in (-1, 1):
        for fixed, free in ((0, 1), (1, 0)):
            local = np.empty((len(steps), 2))
            local[:, fixed], local[:, free] = side / 2, steps
            normal = axes[:, fixed] * side
            on = centre + (local * (length, width)) @ axes.T
            points.append(on[(on @ normal) < 0])
    flat = np.concatenate(points)
    return np.concatenate([np.column_stack([flat[:, 0], np.full(len(flat), y), flat[:, 1]]) for y in range(rows)])


def outline(yaw: float, cut: tuple[bool, bool] = (False, False), centre=CENTRE) -> Outline:
    found = outline_of(seen_from_above(centre, *CAR_WL, yaw), NOISE, cut)
    assert found is not None
    return found


@pytest.mark.parametrize("yaw", np.radians([0, 20, 45, 90, 130, 175, -60]))
def test_with_size_and_heading_given_the_outline_says_where_the_box_stands(yaw):
    views = Outlines.of([outline(yaw)])
    found = place(views, np.array([1.8]), np.array([4.2]), np.array([yaw]), 0.005)
    assert found.centres[0] == pytest.approx(CENTRE, abs=0.06)


def test_a_wrong_size_or_heading_costs_more_than_the_right_one():
    yaw = 0.6
    views = Outlines.of([outline(yaw)] * 5)
    widths, lengths = np.array([1.8, 2.6, 1.8, 1.8, 1.8]), np.array([4.2, 4.2, 3.2, 5.4, 4.2])
    costs = place(views, widths, lengths, np.array([yaw, yaw, yaw, yaw, yaw + 0.4]), 0.005).cost
    assert costs[0] < 0.3 * costs[1:].min()


def test_the_seen_end_fixes_the_place_of_what_is_cut_off():
    yaw, points = 0.0, seen_from_above(CENTRE, *CAR_WL, 0.0)
    hidden = points[points[:, 0] < CENTRE[0] + 0.4]
    rows = []
    for cut in ((False, False), (False, True)):
        view = outline_of(hidden, NOISE, cut)
        assert view is not None
        rows.append(place(Outlines.of([view]), np.array([1.8]), np.array([4.2]), np.array([yaw]), 0.005).centres[0])
    assert rows[1] == pytest.approx(CENTRE, abs=0.1)
    assert abs(rows[0][0] - CENTRE[0]) > 0.5


def test_the_distance_of_a_surface_is_not_that_of_what_scatters_before_it():
    rng = np.random.default_rng(3)
    points = seen_from_above(CENTRE, *CAR_WL, 0.0)
    distance = np.linalg.norm(points[:, (0, 2)], axis=1)
    noisy = points * (1 + rng.normal(0, 0.04, len(points)))[:, None]
    noisy[::15] *= 0.8  # a fifteenth is far too near
    view = outline_of(noisy, NOISE)
    assert view is not None
    assert np.median(view.ranges) == pytest.approx(np.median(distance), abs=0.12)


def test_a_body_stands_in_the_middle_of_what_its_limbs_make_it():
    turn = np.linspace(-np.pi, np.pi, 400)
    body = np.column_stack([0.5 + 0.19 * np.cos(turn), 5.0 + 0.19 * np.sin(turn)])
    points = np.concatenate([np.column_stack([body[:, 0], np.full(400, y), body[:, 1]]) for y in range(12)])
    near = points[np.linalg.norm(points[:, (0, 2)], axis=1) < np.hypot(0.5, 5.0)]
    view = outline_of(near, NOISE)
    assert view is not None
    found = place(Outlines.of([view]), np.array([0.6]), np.array([0.66]), np.array([0.3]), 0.005, rounded=True)
    assert found.centres[0] == pytest.approx((0.5, 5.0), abs=0.06)


def test_an_outline_comes_back_from_json_as_it_was_written():
    value = outline(0.4, (True, False)).to_json()
    again = Outline.from_json(json.loads(json.dumps(value)))
    assert again.to_json() == value
    assert again.cut == (True, False)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_hardly_any_points_make_no_outline(count):
    assert outline_of(np.ones((count, 3)), NOISE) is None


def test_views_of_different_fineness_go_together():
    coarse = outline_of(seen_from_above(CENTRE, *CAR_WL, 0.0, rows=1)[::7], NOISE)
    assert coarse is not None
    views = Outlines.of([outline(0.0), coarse])
    assert np.isfinite(views.ranges).sum(axis=1).tolist() == [16, len(coarse.ranges)]
    assert len(coarse.ranges) < 16
    found = place(views, np.full(2, 1.8), np.full(2, 4.2), np.zeros(2), 0.005)
    assert found.centres == pytest.approx(np.stack([CENTRE, CENTRE]), abs=0.25)
