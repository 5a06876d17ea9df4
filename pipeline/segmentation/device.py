"""Where a network runs, in which precision, and how many things at once fit into its memory.

`FOVEA_DEVICE` says `cpu`, `cuda`, `cuda:1`, or `auto` (the default: the first CUDA device, else the CPU). What torch is
asked is asked by the functions that say so: the web process, which never loads it, asks only `problem` and `has_cuda`.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pipeline.errors import SegmenterUnavailableError

if TYPE_CHECKING:
    import torch

SETTING: Final = "FOVEA_DEVICE"
_KNOWN: Final = re.compile(r"auto|cpu|cuda(:\d+)?")
_NODES: Final = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")

T = TypeVar("T")
R = TypeVar("R")


def wanted() -> str:
    """The value of the setting. Raises SegmenterUnavailableError where it makes no sense."""
    name = (os.environ.get(SETTING) or "auto").strip().lower()
    if not _KNOWN.fullmatch(name):
        raise SegmenterUnavailableError(f"{SETTING}={name!r} is not one of auto, cpu, cuda, cuda:<number>.")
    return name


def has_cuda() -> bool:
    """Whether there seems to be a CUDA device and a torch that can use it. Looks at files, loads nothing."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return False
    return not build.endswith("+cpu") and any(Path(node).exists() for node in _NODES)


def problem() -> str:
    """Why a network cannot run where the setting wants it to; empty if it can. Loads nothing."""
    try:
        name = wanted()
    except SegmenterUnavailableError as error:
        return str(error)
    if name.startswith("cuda") and not has_cuda():
        return (
            f"{SETTING}={name} asks for CUDA, but this machine has no CUDA device (or torch is a build without CUDA): "
            f"set {SETTING}=cpu or auto."
        )
    return ""


def runs_on_gpu() -> bool:
    """Whether a network would run on a CUDA device here. Loads nothing."""
    return not problem() and wanted() != "cpu" and has_cuda()


def choose() -> "torch.device":
    """The torch device to run on. Raises SegmenterUnavailableError where CUDA is asked for and absent."""
    import torch

    if why := problem():
        raise SegmenterUnavailableError(why)
    name = wanted()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SegmenterUnavailableError(f"{SETTING}={name} asks for CUDA, but torch finds no CUDA device here.")
    return torch.device(name)


def precision(device: "torch.device") -> AbstractContextManager[Any]:
    """Inference in bfloat16 where the device has it in hardware, in float32 elsewhere.

    On a CPU without oneDNN, whose convolutions give other last bits on another number of threads. It costs no time here
    (Hiera is nearly all matrix products), and the same frame gives the same bytes everywhere.
    """
    import torch

    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16) if torch.cuda.is_bf16_supported() else nullcontext()
    return _without_onednn()


@contextmanager
def _without_onednn() -> Iterator[None]:
    from torch.backends import mkldnn

    before, *_ = mkldnn.set_flags(False)
    try:
        yield
    finally:
        mkldnn.set_flags(before)


def batch_size(device: "torch.device", bytes_each: int, most: int, on_cpu: int) -> int:
    """How many things of `bytes_each` fit into half the free memory of a GPU: a power of two up to `most`.

    On a CPU always `on_cpu`: there the same input must give the same bytes, whatever else the machine is doing.
    """
    if device.type != "cuda":
        return on_cpu
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    fit = max(1, min(most, free // 2 // bytes_each))
    return 1 << (int(fit).bit_length() - 1)


def in_batches(work: Callable[[Sequence[T]], list[R]], items: Sequence[T], size: int) -> list[R]:
    """`work` on `items`, `size` at a time. What does not fit into memory is tried again in halves.

    Raises MemoryError where a single item does not fit.
    """
    done: list[R] = []
    while len(done) < len(items):
        try:
            done += work(items[len(done) : len(done) + size])
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError("it does not fit into the memory of the device, not even alone") from error
            size = (size + 1) // 2
            _release()
    return done


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def _release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
