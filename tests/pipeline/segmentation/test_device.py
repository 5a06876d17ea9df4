import subprocess
import sys

import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import device


@pytest.fixture
def setting(monkeypatch):
    return lambda value: monkeypatch.setenv("FOVEA_DEVICE", value)


def test_without_a_setting_there_is_no_problem(monkeypatch):
    monkeypatch.delenv("FOVEA_DEVICE", raising=False)
    assert device.problem() == ""
    assert device.wanted() == "auto"


@pytest.mark.parametrize("value", ["gpu", "cuda:", "cuda:x", "cpu0"])
def test_a_setting_that_makes_no_sense_is_named(setting, value):
    setting(value)
    assert repr(value) in device.problem()
    with pytest.raises(SegmenterUnavailableError, match="cuda:<number>"):
        device.choose()


def test_the_setting_may_be_written_large(setting):
    setting(" CPU ")
    assert device.wanted() == "cpu"
    assert not device.runs_on_gpu()


def test_whether_there_is_cuda_is_asked_without_loading_torch():
    code = "import sys; from pipeline.segmentation import device; device.problem(); device.runs_on_gpu(); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    sizes = []

    def work(items):
        sizes.append(len(items))
        if len(items) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [each * 10 for each in items]

    assert device.in_batches(work, list(range(10)), 9) == [each * 10 for each in range(10)]
    assert sizes == [9, 5, 3, 3, 3, 1]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")

    def work(_items):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        device.in_batches(work, [1, 2], 2)


def test_a_real_lack_of_memory_of_a_cpu_is_understood():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")

    def work(items):
        return [torch.empty(1 << 60, dtype=torch.uint8) for _ in items]

    with pytest.raises(MemoryError, match="not even alone"):
        device.in_batches(work, [1, 2], 2)
