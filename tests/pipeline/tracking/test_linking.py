import numpy as np
import pytest

from pipeline.tracking.linking import Piece, link


def walk(track_id: int, start: float, end: float, *, speed: float = 1.3, x: float = 0.0, class_id: int = 1) -> Piece:
    """Someone who walks along x from `start` to `end` seconds, `x` metres ahead of where he is at time 0."""
    times = np.arange(start, end, 0.1)
    return Piece(track_id, class_id, times, np.stack([x + speed * times, np.full(len(times), 6.0)], axis=1), 0.8)


def test_a_walk_seen_before_and_after_a_gap_is_one():
    assert link([walk(1, 0, 2), walk(2, 2.9, 5)]) == {2: 1}


def test_three_pieces_become_one_whatever_their_order():
    assert link([walk(3, 4, 5), walk(1, 0, 1.5), walk(2, 2, 3.5)]) == {3: 1, 2: 1}


@pytest.mark.parametrize(
    "other",
    [
        walk(2, 2.9, 5, class_id=2),
        walk(2, 2.9, 5, x=3),
        walk(2, 1.0, 5),
        walk(2, 4.5, 6),
        walk(2, 2.9, 5, speed=-1.3, x=7.5),
    ],
    ids=["of another class", "elsewhere", "at the same time", "too late", "the other way"],
)
def test_what_does_not_go_on_is_another(other):
    assert link([walk(1, 0, 2), other]) == {}


def test_two_who_pass_behind_something_together_are_not_exchanged():
    assert link([walk(1, 0, 2), walk(2, 0, 2, x=1.0), walk(3, 2.8, 5, x=1.0), walk(4, 2.8, 5)]) == {3: 2, 4: 1}


def test_two_who_cross_unseen_go_on_each_his_way():
    pieces = [walk(1, 0, 2), walk(2, 0, 2, speed=-1.3, x=6), walk(3, 2.6, 5, speed=-1.3, x=6), walk(4, 2.6, 5)]
    assert link(pieces) == {3: 2, 4: 1}


def test_of_a_piece_seen_twice_only_the_place_counts():
    assert link([walk(1, 0, 2), walk(2, 2.2, 2.35)]) == {2: 1}


def test_nothing_links_nothing():
    assert link([]) == {}
    assert link([walk(1, 0, 2)]) == {}
