"""What runs the DeepLab network on a CPU: the 8-bit .tflite file, or a checkpoint through onnxruntime.

The file's own output is an arg-max; run only as far as its logits, it yields these and the features before them, and
the runtime may use its fast 8-bit kernels (four times as fast as keeping every tensor). Every runtime works with a
fixed number of threads, so that the same image gives the same bytes on every machine of a kind.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.tflite_weights import ending_at
from pipeline.segmentation.vocabulary import VOC

SIDE: Final = 513
STRIDE: Final = 16
MEAN: Final = 128
FEATURES_TENSOR: Final = (
    "concat_projection/Relu;concat_projection/add_fold;concat_projection/Conv2D_Fold;"
    "concat_projection/BatchNorm_Fold/bias"
)
LOGITS_TENSOR: Final = "logits/semantic/BiasAdd;logits/semantic/Conv2D;logits/semantic/biases1"
_LANES: Final = 2
"""Images that are run at the same time, on a thread each: that uses two cores better than two threads for one do."""


class Grid(NamedTuple):
    """float32 (33, 33, 256) features and (33, 33, classes) logits of one canvas; cell i lies on its pixel 16 i."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]


class Network(Protocol):
    """class_names: those of the logits, background first."""

    class_names: tuple[str, ...]

    def run(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Grid]:
        """One grid for each canvas, uint8 RGB (513, 513, 3)."""
        ...


class LiteNetwork:
    """The .tflite file. Raises SegmenterUnavailableError for another file, and without the runtime."""

    class_names: tuple[str, ...] = VOC

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise SegmenterUnavailableError(
                f"segmenter deeplab: the package ai-edge-litert, which runs {path.name}, is not installed."
            ) from error
        content, self._outputs = ending_at(path, (FEATURES_TENSOR, LOGITS_TENSOR))
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(_LANES):
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
            self._free.put(interpreter)
        self._input = interpreter.get_input_details()[0]["index"]
        details = {each["index"]: each["quantization"] for each in interpreter.get_output_details()}
        self._scales = [details[index] for index in self._outputs]
        self._pool = ThreadPoolExecutor(_LANES, thread_name_prefix="deeplab")

    def run(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Grid]:
        return list(self._pool.map(self._one, canvases))

    def _one(self, canvas: NDArray[np.uint8]) -> Grid:
        interpreter = self._free.get()
        try:
            interpreter.set_tensor(self._input, canvas[None])
            interpreter.invoke()
            values = [interpreter.get_tensor(index)[0] for index in self._outputs]
        finally:
            self._free.put(interpreter)
        floats = [
            (value.astype(np.float32) - np.float32(zero)) * np.float32(step)
            for value, (step, zero) in zip(values, self._scales, strict=True)
        ]
        return Grid(*floats)


class OnnxNetwork:
    """A checkpoint: safetensors (needs torch once, to build the graph) or ONNX as `deeplab_torch.to_onnx` writes it.

    Raises SegmenterUnavailableError naming the file where it is missing, damaged or another network.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise SegmenterUnavailableError(
                f"segmenter deeplab: the package onnxruntime, which runs {path.name}, is not installed."
            ) from error
        if path.suffix == ".safetensors":
            from pipeline.segmentation.deeplab_torch import load_checkpoint, to_onnx

            content = to_onnx(load_checkpoint(path))
        elif path.is_file():
            content = path.read_bytes()
        else:
            raise SegmenterUnavailableError(f"segmenter deeplab: the checkpoint {path.name} is not there.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _LANES
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            properties = self._session.get_modelmeta().custom_metadata_map
            self.class_names = tuple(str(each) for each in json.loads(properties["classes"]))
        except Exception as error:  # the runtime's own errors have no common class
            raise SegmenterUnavailableError(f"{path.name} is not a checkpoint of the DeepLab network.") from error

    def run(self, canvases: Sequence[NDArray[np.uint8]]) -> list[Grid]:
        grids = []
        for canvas in canvases:
            pixels = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]).astype(np.float32)
            features, logits = self._session.run(["features", "logits"], {"images": pixels})
            grids.append(Grid(features[0].transpose(1, 2, 0), logits[0].transpose(1, 2, 0)))
        return grids
