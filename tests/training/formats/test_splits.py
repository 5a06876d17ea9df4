"""Splits: exact sizes, deterministic, no leaks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from training.formats.splits import SplitConfig, assign_splits, largest_remainder


@pytest.mark.parametrize(
    ("total", "ratios", "expected"),
    [
        (0, (0.7, 0.2, 0.1), [0, 0, 0]),
        (1, (0.7, 0.2, 0.1), [1, 0, 0]),
        (10, (0.7, 0.2, 0.1), [7, 2, 1]),
        (7, (0.7, 0.2, 0.1), [5, 1, 1]),
        (3, (1 / 3, 1 / 3, 1 / 3), [1, 1, 1]),
        (100, (0.29, 0.56, 0.15), [29, 56, 15]),
        (5, (1, 0, 0), [5, 0, 0]),
    ],
)
def test_sizes_are_the_nearest_whole_numbers(total, ratios, expected):
    assert largest_remainder(total, ratios) == expected


@given(st.integers(0, 500), st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any))
def test_sizes_sum_to_the_total_and_are_within_one_of_the_quota(total, weights):
    ratios = [weight / sum(weights) for weight in weights]
    counts = largest_remainder(total, ratios)
    assert sum(counts) == total
    assert all(abs(count - total * ratio) < 1 + 1e-9 for count, ratio in zip(counts, ratios, strict=True))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("train_ratio", {"train_ratio": 1.2, "val_ratio": -0.1, "test_ratio": -0.1}),
        ("val_ratio", {"val_ratio": -0.1}),
        ("test_ratio", {"test_ratio": float("nan")}),
        ("test_ratio", {"test_ratio": "a tenth"}),
        ("train_ratio", {"train_ratio": 0.7, "val_ratio": 0.2, "test_ratio": 0.2}),
        ("train_ratio", {"train_ratio": 0.7, "val_ratio": 0.2, "test_ratio": 0.09999}),
        ("seed", {"seed": 1.5}),
        ("split_by", {"split_by": "colour"}),
    ],
)
def test_a_wrong_parameter_is_named(field, values):
    with pytest.raises(ConfigurationError) as caught:
        SplitConfig(**values)
    assert caught.value.field == field


def test_ratios_may_be_off_by_rounding():
    SplitConfig(0.7000004, 0.2, 0.1)


FRAMES = [(f"s{n % 4}", n // 4) for n in range(400)]


def test_the_answer_depends_on_nothing_but_seed_and_names():
    config = SplitConfig(seed=3)
    assert assign_splits(config, FRAMES) == assign_splits(config, FRAMES)
    backwards = assign_splits(config, FRAMES[::-1])
    assert assign_splits(config, FRAMES) == backwards[::-1]
    assert assign_splits(SplitConfig(seed=4), FRAMES) != assign_splits(config, FRAMES)
    assert Counter(assign_splits(config, FRAMES)) == {0: 280, 1: 80, 2: 40}


def test_the_shuffle_is_the_same_in_every_version():
    assert "".join(map(str, assign_splits(SplitConfig(seed=1), [("a", n) for n in range(20)]))) == SHUFFLED


SHUFFLED = "00000010210000110020"


@pytest.mark.parametrize("seed", range(5))
def test_by_sequence_keeps_sequences_together_and_fills_every_split(seed):
    frames = [(f"s{n}", i) for n, size in enumerate((50, 3, 20, 7, 40, 11)) for i in range(size)]
    splits = assign_splits(SplitConfig(seed=seed, split_by="sequence"), frames)
    where = {}
    for (sequence, _), split in zip(frames, splits, strict=True):
        assert where.setdefault(sequence, split) == split
    assert set(where.values()) == {0, 1, 2}


def test_fewer_sequences_than_splits_is_an_error_that_says_so():
    with pytest.raises(ConfigurationError, match="split_by: 1 sequence"):
        assign_splits(SplitConfig(split_by="sequence"), [("a", 0), ("a", 1)])
    assert assign_splits(SplitConfig(1, 0, 0, split_by="sequence"), [("a", 0), ("a", 1)]) == [0, 0]
