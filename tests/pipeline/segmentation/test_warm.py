"""Models stay loaded while there is room for them, and go in the order in which they were last used."""

import pytest

from pipeline.segmentation import warm
from pipeline.segmentation.base import ClassSpec
from pipeline.segmentation.warm import Memory, WarmModels

GIGABYTE = 1 << 30


class Machine:
    """A machine of 16 GB whose clock and memory a test sets; loading a model takes 3 GB of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.own = GIGABYTE
        self.others = 0
        self.loaded = []

    def memory(self) -> Memory:
        return Memory(16 * GIGABYTE, 16 * GIGABYTE - self.own - self.others, self.own)

    def load(self, name):
        def call():
            self.loaded.append(name)
            self.own += 3 * GIGABYTE
            return name.upper()

        return call

    def use(self, models, *names):
        for name in names:
            self.now += 1
            assert models.use(name, self.load(name)) == name.upper()


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def models(machine):
    return WarmModels(memory=machine.memory, clock=lambda: machine.now, idle_s=100)


def test_a_model_is_loaded_once(machine, models):
    machine.use(models, "a", "a", "a")
    assert machine.loaded == ["a"]


def test_beyond_the_limit_the_one_used_longest_ago_goes(machine, models):
    machine.use(models, "a", "b", "a", "c")  # 9 GB where 6.4 may be kept
    assert [name for name in "abc" if name in models] == ["a", "c"]


def test_the_one_in_use_stays_however_big_it_is(machine):
    models = WarmModels(limit_bytes=GIGABYTE, memory=machine.memory, clock=lambda: machine.now)
    machine.use(models, "a")
    assert "a" in models
    machine.use(models, "b")
    assert "a" not in models
    assert "b" in models


def test_what_nobody_used_for_long_is_let_go(machine, models):
    machine.use(models, "a")
    machine.now += 99
    assert models.make_room() == 0
    machine.now += 2
    assert models.make_room() == 1
    assert len(models) == 0


def test_when_others_want_the_memory_as_many_go_as_it_takes(machine, models):
    machine.use(models, "a", "b")
    machine.others = 9 * GIGABYTE  # nothing is free
    assert models.make_room() == 1
    machine.own, machine.others = 4 * GIGABYTE, 14 * GIGABYTE
    assert models.make_room() == 1


def test_what_fails_to_load_is_not_kept(models):
    def broken():
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        models.use("a", broken)
    assert "a" not in models


def test_two_jobs_of_one_worker_share_a_segmenter_until_its_files_change(tmp_path):
    classes = [ClassSpec(1, "crate", typical_size_hwl=(1.0, 1.0, 1.0))]
    first = warm.segmenter("geometric", classes, [tmp_path])
    assert warm.segmenter("geometric", classes, [tmp_path]) is first
    assert warm.segmenter("geometric", [ClassSpec(2, "car", typical_size_hwl=(1.5, 1.8, 4.0))], [tmp_path]) is not first
    (tmp_path / "weights.onnx").write_bytes(b"new")
    assert warm.segmenter("geometric", classes, [tmp_path]) is not first
