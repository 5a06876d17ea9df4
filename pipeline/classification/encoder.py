"""Features of a small network trained on ImageNet, pooled over the mask.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018; the file is google-coral/test_data's
`mobilenet_v2_1.0_224_quant.tflite`. Its arithmetic is in whole numbers: the same bytes on any number of threads.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ClassHeadError
from pipeline.segmentation import registry
from pipeline.segmentation.base import View

KIND: Final = "mobilenet-v2/1"
FILE: Final = "mobilenet_v2_1.0_224_quant.tflite"
SHA256: Final = "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776"
DIMENSION: Final = 1280
_SIDE: Final = 224
_GRID: Final = 7
_GREY: Final = 128
_MARGIN: Final = 0.08
"""Of the longer side, left around an instance: the network never saw things cut off at their outline."""


class Encoder:
    """Feature extractor "mobilenet-v2/1". Raises ClassHeadError naming the weights or the runtime that is missing."""

    kind = KIND
    dimension = DIMENSION

    def __init__(self, models_folders: Sequence[Path]) -> None:
        path = registry.find_model(FILE, models_folders)
        if path is None:
            raise ClassHeadError(f"class head: {FILE} is in none of the folders of {registry.SETTING}.")
        registry.verified(path, SHA256)
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise ClassHeadError(
                f"class head: the package ai-edge-litert, which runs {path.name}, is not installed (extra `deeplab`)."
            ) from error
        # The default delegate fuses the graph and leaves nothing to read inside it.
        self._network: Any = Interpreter(
            str(path),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]["index"]
        self._output, self._step = next(
            (each["index"], float(each["quantization"][0]))
            for each in self._network.get_tensor_details()
            if tuple(each["shape"]) == (1, _GRID, _GRID, DIMENSION)
        )
        self._lock = threading.Lock()

    def of(self, view: View, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
        """(N, 1280) of length 1 each, of instances bool (H, W) of one view; NaN for an empty mask."""
        out = np.full((len(masks), DIMENSION), np.nan, np.float32)
        for row, mask in enumerate(masks):
            if mask.any():
                out[row] = self._one(view.image, mask)
        return out

    def _one(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        height, width = window[0].stop - window[0].start, window[1].stop - window[1].start
        scale = _SIDE / (max(height, width) * (1 + 2 * _MARGIN))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        left, top = (_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2
        place = (slice(top, top + size[1]), slice(left, left + size[0]))
        cover = np.zeros((_SIDE, _SIDE), np.float32)
        cover[place] = cv2.resize(mask[window].astype(np.float32), size, interpolation=method)
        canvas = np.full((_SIDE, _SIDE, 3), _GREY, np.float32)
        part = cv2.resize(image[window], size, interpolation=method)
        canvas[place] = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
        canvas = _GREY + (canvas - _GREY) * cover[..., None]
        with self._lock:
            self._network.set_tensor(self._input, np.rint(canvas).astype(np.uint8)[None])
            self._network.invoke()
            cells = self._network.get_tensor(self._output)[0].astype(np.float64)
        share = cover.astype(np.float64).reshape(_GRID, _SIDE // _GRID, _GRID, _SIDE // _GRID).mean(axis=(1, 3))
        pooled = (cells * share[..., None]).sum(axis=(0, 1)) * (self._step / max(float(share.sum()), 1e-9))
        return np.asarray(pooled / max(float(np.sqrt(np.square(pooled).sum())), 1e-9), dtype=np.float32)
