"""Masks carried without weights over a whole real video, beside what flow alone does."""

import numpy as np
import pytest

from benchmarks import propagation


@pytest.fixture(scope="module")
def girls(data_folder):
    folder = data_folder / "vos_schoolgirls"
    return propagation.read_frames(folder / "schoolgirls.mp4"), propagation.read_labels(folder / "schoolgirls_mask")


def test_what_the_score_of_a_perfect_and_of_an_empty_answer_is(girls):
    _, labels = girls
    assert propagation.per_object(labels[0], labels[0], [1, 3]) == [1, 1]
    assert propagation.per_object(np.zeros_like(labels[0]), labels[0], [1, 3]) == [0, 0]
    assert propagation.jaccard(labels[0] > 90, labels[0] > 90) == 1


def test_the_baselines_start_from_the_given_mask(girls):
    frames, labels = girls
    for carry in (propagation.held, propagation.flowed):
        found = list(carry(frames[:3], labels[0]))
        assert len(found) == 3
        assert np.array_equal(found[0], labels[0])


@pytest.mark.slow
def test_seven_objects_that_hide_one_another_are_followed_through_eighty_frames(girls):
    frames, labels = girls
    ids = [int(each) for each in np.unique(labels[0]) if each]
    scores = [
        propagation.per_object(found, true, ids)
        for (found, _), true in zip(propagation.classical(frames, labels[0]), labels, strict=True)
    ]
    assert np.mean(scores) >= 0.6
    assert np.mean(scores[-10:]) >= 0.5
