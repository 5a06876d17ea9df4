"""Disparity by a neural network in an ONNX file, held to the same standards as any other match.

What the file may look like (float32 everywhere, batch 1, height and width fixed or free):

    inputs   one, both eyes stacked, left first:   2 channels (grey) or 6 (RGB RGB), 0…1: HITNet's conventions
             two, left then right:                 1 channel (grey) or 3 (RGB) each, 0…255: CREStereo's conventions
             channels first (1, C, H, W) or last (1, H, W, C)
    output   the first one: (1, 1, H, W), (1, 2, H, W) with the horizontal part first, (1, H, W, 1), (1, H, W) or
             (H, W); positive disparities in pixels of the network's input, x_right = x_left - disparity

An entry `input_range` (1 or 255) in the file's metadata overrides the range. Where height and width are free, images
are filled up to multiples of 64 (and halved above 1300 pixels of width); where they are fixed, images are scaled.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DepthUnavailableError
from pipeline.stereo.agreement import left_right_difference
from pipeline.stereo.base import Confidence, Disparity, StereoMatch
from pipeline.stereo.confidence import confidence_of

_MULTIPLE: Final = 64
_MAX_WIDTH: Final = 1300
_TRIAL_SIZE: Final = (256, 512)
_EXPECTED: Final = (
    "expected is one float32 input of 2 or 6 channels (both eyes stacked), or two of 1 or 3 channels (left, right)"
)


@dataclass(frozen=True, slots=True)
class _Input:
    """How the network wants its pictures. size: (height, width), None where it is free."""

    names: tuple[str, ...]
    colour: bool
    channels_last: bool
    size: tuple[int, int] | None
    highest: float


class NeuralMatcher:
    """A `StereoMatcher` that runs an ONNX file both ways round and keeps what the two answers agree on.

    max_difference: pixels (of the network's input) the two may differ by. Runs on CUDA where ONNX Runtime offers it,
    else on one core per call, so that several frames can be matched side by side. Raises DepthUnavailableError naming
    the file if it is missing, damaged, or not a stereo network as described above: one trial run is made.
    """

    def __init__(self, path: Path, max_difference: float = 1.0) -> None:
        self.path, self.max_difference = path, max_difference
        self._session = _session(path)
        self._input = _described(path, self._session)
        try:
            self._run(*(np.zeros((*(self._input.size or _TRIAL_SIZE), 3), np.uint8) for _ in range(2)))
        except _failures() as error:
            raise DepthUnavailableError(f"{path.name} does not run: {_first_line(error)}") from error

    def measure(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> StereoMatch:
        """See `StereoMatcher`."""
        if left.shape[:2] != right.shape[:2]:
            raise ValueError(f"left is {left.shape[:2]}, right is {right.shape[:2]}")
        height, width = left.shape[:2]
        size = self._input.size or _free_size(height, width)
        scaled = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in (_bgr(left), _bgr(right))]
        work = [np.asarray(image, np.uint8) for image in scaled]
        disparity = self._run(work[0], work[1])
        mirrored = self._run(*(np.ascontiguousarray(image[:, ::-1]) for image in (work[1], work[0])))
        difference = left_right_difference(disparity, mirrored[:, ::-1])
        disparity[difference > self.max_difference] = np.nan
        grey = [np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) for image in work]
        confidence = confidence_of(grey[0], grey[1], disparity, difference)
        return StereoMatch(
            _resized(disparity, height, width) * np.float32(width / size[1]), _resized(confidence, height, width)
        )

    def _run(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> Disparity:
        """The network's answer for uint8 BGR (H, W, 3), as float32 (H, W), NaN where it is not positive."""
        height, width = left.shape[:2]
        if self._input.size is None:
            below, beside = -height % _MULTIPLE, -width % _MULTIPLE
            padded = [cv2.copyMakeBorder(i, 0, below, 0, beside, cv2.BORDER_REPLICATE) for i in (left, right)]
            left, right = (np.asarray(image, np.uint8) for image in padded)
        answers: list[Any] = self._session.run(None, self._tensors(left, right))
        disparity = _plane(np.asarray(answers[0], np.float32))
        if disparity.shape != left.shape[:2]:
            disparity = _resized(disparity, *left.shape[:2])
        disparity = disparity[:height, :width].copy()
        disparity[~(disparity > 0)] = np.nan
        return disparity

    def _tensors(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        code = cv2.COLOR_BGR2RGB if self._input.colour else cv2.COLOR_BGR2GRAY
        eyes = []
        for image in (left, right):
            eye = np.asarray(cv2.cvtColor(image, code), np.float32) * np.float32(self._input.highest / 255)
            eye = np.atleast_3d(eye)
            eyes.append((eye if self._input.channels_last else eye.transpose(2, 0, 1))[None])
        if len(self._input.names) == 1:
            eyes = [np.concatenate(eyes, axis=3 if self._input.channels_last else 1)]
        return {name: np.ascontiguousarray(eye) for name, eye in zip(self._input.names, eyes, strict=True)}


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DepthUnavailableError(
            f"{path.name} needs the package onnxruntime, which is not installed (extra `onnx`)."
        ) from error
    if not path.is_file():
        raise DepthUnavailableError(f"{path.name} is not there.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # frames are what is done side by side; and sums keep their order
    options.log_severity_level = 4
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _failures() as error:
        raise DepthUnavailableError(
            f"{path.name} is damaged or no ONNX file that runs here: {_first_line(error)}"
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises of its own (its exceptions share no base), and what numpy says of odd shapes."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (getattr(state, name) for name in dir(state))
    raised = tuple(each for each in own if isinstance(each, type) and issubclass(each, Exception))
    return (*raised, RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _described(path: Path, session: Any) -> _Input:
    inputs = session.get_inputs()
    told = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs) or "none"
    refused = DepthUnavailableError(f"{path.name} is no stereo network: its inputs are {told}; {_EXPECTED}.")
    channels = {1: (2, 6), 2: (1, 3)}.get(len(inputs))
    if channels is None or any(each.type != "tensor(float)" or len(each.shape) != 4 for each in inputs):
        raise refused
    shape: Sequence[Any] = inputs[0].shape
    if any(list(each.shape[1:]) != list(shape[1:]) and _all_fixed(each, inputs[0]) for each in inputs):
        raise refused
    if shape[1] in channels:
        count, rows, columns, last = shape[1], shape[2], shape[3], False
    elif shape[3] in channels:
        count, rows, columns, last = shape[3], shape[1], shape[2], True
    else:
        raise refused
    size = (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None
    told_range = session.get_modelmeta().custom_metadata_map.get("input_range", "")
    if told_range not in ("", "1", "255"):
        raise DepthUnavailableError(f"{path.name}: input_range is {told_range!r} in its metadata, not 1 or 255.")
    highest = float(told_range) if told_range else (1.0 if len(inputs) == 1 else 255.0)
    return _Input(tuple(each.name for each in inputs), count in (3, 6), last, size, highest)


def _all_fixed(*inputs: Any) -> bool:
    return all(isinstance(length, int) for each in inputs for length in each.shape[1:])


def _plane(answer: NDArray[np.float32]) -> Disparity:
    """The disparity map in what the network gave. Raises ValueError if there is none."""
    plane = answer
    if answer.ndim == 4 and answer.shape[1] in (1, 2):
        plane = answer[:, 0]
    elif answer.ndim == 4 and answer.shape[3] in (1, 2):
        plane = answer[..., 0]
    if plane.ndim == 3 and plane.shape[0] == 1:
        plane = plane[0]
    if plane.ndim != 2:
        raise ValueError(f"its output is {answer.shape}, not a map of disparities.")
    return plane


def _free_size(height: int, width: int) -> tuple[int, int]:
    smaller = -(-width // _MAX_WIDTH)
    return height // smaller, width // smaller


def _resized(values: Disparity | Confidence, height: int, width: int) -> NDArray[np.float32]:
    """Nearest neighbour: interpolating would invent depths between an object and what is behind it."""
    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)


def _bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)


def main(arguments: Sequence[str]) -> int:
    """Load the file named and run it once; what is wrong with it goes to standard output."""
    try:
        NeuralMatcher(Path(arguments[0]))
    except DepthUnavailableError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
