import numpy as np
import pytest

from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.size_prior import log_likelihoods, posterior, typical_size

PERSON, CAR, CRATE = (
    ClassSpec(1, "person", "", (1.75, 0.6, 0.6)),
    ClassSpec(2, "car", "", (1.5, 1.8, 4.2)),
    ClassSpec(3, "crate", "", (0.8, 0.8, 1.0)),
)
CLASSES = [PERSON, CAR, CRATE]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"height": 1.7, "across": 0.55, "along": 0.3}, 0),
        ({"height": 1.45, "across": 4.0, "along": 0.9}, 1),
        ({"height": 1.45, "across": 1.75, "along": 2.0}, 1),
        ({"height": 0.8, "across": 1.1, "along": 0.4}, 2),
        ({"height": 1.1, "across": 0.5, "along": 0.3, "cut_above": True}, 0),
        ({"height": 1.5, "across": 1.7, "along": 0.5, "cut_aside": True}, 1),
    ],
)
def test_the_class_whose_size_fits_wins(seen, expected):
    share = posterior(log_likelihoods(CLASSES, **seen))
    assert int(np.argmax(share)) == expected
    assert share[expected] > 0.5


@pytest.mark.parametrize(
    "seen", [{"height": 9, "across": 12, "along": 1}, {"height": 0.2, "across": 0.1, "along": 0.1}]
)
def test_what_fits_nothing_is_nothing(seen):
    assert posterior(log_likelihoods(CLASSES, **seen)).sum() < 0.05


def test_probabilities_sum_to_at_most_one():
    share = posterior(log_likelihoods(CLASSES, height=1.2, across=1.0, along=0.6))
    assert 0 < share.sum() <= 1
    assert posterior(np.array([])).size == 0


def test_a_class_without_size_never_wins():
    assert posterior(log_likelihoods([ClassSpec(1, "thing"), PERSON], height=1.7, across=0.6, along=0.3))[0] == 0


def test_sizes_come_from_the_class_then_from_its_name():
    assert typical_size(PERSON) == (1.75, 0.6, 0.6)
    assert typical_size(ClassSpec(4, "Pedestrian"))[0] == pytest.approx(1.72)
    assert typical_size(ClassSpec(5, "gizmo")) is None
