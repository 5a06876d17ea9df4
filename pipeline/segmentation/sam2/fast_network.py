"""The encoder and the decoder compiled for a CPU by OpenVINO or ONNX Runtime: exported once, kept, used from then on.

Both read the same ONNX files (OpenVINO takes four times as long to read torch's own graph), and both give the same
bytes on any number of threads.

Before an export counts it is compared with the network it was made from. It stays in float32: in bfloat16 the error of
the decoder's position code is a third of its range (measured), and what that does to masks needs real weights.
"""

import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.sam2.network import Decoded, Features, Network

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

RUNTIMES: Final = ("onnxruntime", "openvino")
"""In order of preference: OpenVINO encodes somewhat faster, but takes most of a minute to start, every time."""
SETTING: Final = "FOVEA_SAM_COMPILED"
TOLERANCE: Final = 2e-3
"""Largest difference to the network, relative to the largest value, with which an export is used."""
_OPSET: Final = 17
_PARTS: Final = {"encoder": (), "several": (True,), "one": (False,)}


class Compiled(Protocol):
    """A compiled graph: arrays in, arrays out, in the order of the export."""

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]: ...


class FastNetwork:
    """`encode` and `decode` of pipeline.segmentation.sam2.network.Network, compiled. Masks as prompts stay with the
    network itself, as does memory."""

    def __init__(self, name: str, network: Network, graphs: dict[str, Compiled]) -> None:
        self.name = name
        self._network = network
        self._graphs = graphs

    def encode(self, pixels: "torch.Tensor") -> Features:
        import torch

        maps = self._graphs["encoder"](pixels.numpy())
        return Features(*(torch.from_numpy(each) for each in maps))

    def decode(
        self, features: Features, points: "torch.Tensor", labels: "torch.Tensor", mask: Any = None, *, several: bool
    ) -> Decoded:
        import torch

        if mask is not None:
            return self._network.decode(features, points, labels, mask, several=several)
        given = [each.numpy() for each in (*features, points, labels)]
        logits, quality = self._graphs["several" if several else "one"](*given)
        return Decoded(torch.from_numpy(logits), torch.from_numpy(quality))


def build(network: Network, sha256: str, cache: Path, wanted: str = "") -> FastNetwork | None:
    """The compiled network, from the cache or exported now; None where there is no runtime or nothing can be kept.

    wanted: one of RUNTIMES, or empty for the setting, or the first that is installed; asked for by name and absent
    raises SegmenterUnavailableError.
    """
    wanted = wanted or os.environ.get(SETTING, "")
    if wanted == "no":
        return None
    if wanted and (wanted not in RUNTIMES or find_spec(wanted) is None):
        raise SegmenterUnavailableError(
            f"{SETTING}={wanted!r}: it is none of no, {', '.join(RUNTIMES)}, or that package is not installed."
        )
    runtime = wanted or next((each for each in RUNTIMES if find_spec(each)), "")
    if not runtime or find_spec("onnx") is None:  # without which torch exports nothing
        return None
    made_by = "-".join(f"{each}{version(each)}" for each in ("torch", network.runtime))
    folder = cache / "sam2" / f"{sha256[:16]}-{network.side}-{runtime}{version(runtime)}-{made_by}"
    for attempt in range(2):
        try:
            if not (folder / "made.json").exists():
                _export(network, runtime, folder)
            return FastNetwork(runtime, network, {part: _load(runtime, folder / part) for part in _PARTS})
        except OSError as error:
            logger.warning("cannot keep compiled networks in %s: %s", folder.parent, error)
            return None
        except (RuntimeError, ValueError) as error:
            logger.warning("the compiled network in %s cannot be used: %s", folder.name, str(error).partition("\n")[0])
            shutil.rmtree(folder, ignore_errors=True)
            if attempt:
                return None
    return None


def _export(network: Network, runtime: str, folder: Path) -> None:
    """Make all parts under a temporary name, compare them, and move the folder into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.info("compiling SAM 2 with %s for this machine, once: a minute or so", runtime)
    started = time.perf_counter()
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        errors = {part: _export_part(network, runtime, part, temporary / part) for part in _PARTS}
        if max(errors.values()) > TOLERANCE:
            raise ValueError(f"it differs from the network it was made from: {errors}")
        made = {"errors": errors, "seconds": time.perf_counter() - started}
        (temporary / "made.json").write_text(json.dumps(made, indent=1) + "\n")
        if not folder.exists():
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _export_part(network: Network, runtime: str, part: str, stem: Path) -> float:
    """Export one part to files that begin with `stem`; its largest relative difference to the network."""
    import torch

    module, examples = _module(network, part)
    with torch.inference_mode():
        expected = module(*examples[-1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: what it gives is compared below, at other shapes
        _to_onnx(module, examples[0], part, stem)
    given = _load(runtime, stem)(*(each.numpy() for each in examples[-1]))
    pairs = zip(given, expected, strict=True)
    return max(float(np.abs(a - b.numpy()).max() / max(1e-6, float(b.abs().max()))) for a, b in pairs)


def _module(network: Network, part: str) -> tuple[Any, list[tuple["torch.Tensor", ...]]]:
    """A part as a module with tensors in and out, and inputs to trace and to compare it with (of other shapes)."""
    import torch

    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network.model  # so that the exporters find its tensors

    class Encoder(Part):
        def forward(self, pixels: "torch.Tensor") -> tuple["torch.Tensor", ...]:
            return tuple(network.encode(pixels))

    class Decoder(Part):
        def forward(self, *tensors: "torch.Tensor") -> tuple["torch.Tensor", ...]:
            fine, middle, coarse, points, labels = tensors
            return tuple(network.decode(Features(fine, middle, coarse), points, labels, several=part == "several"))

    source = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, network.side, network.side, generator=source)
    if part == "encoder":
        return Encoder().eval(), [(pixels,)]
    with torch.inference_mode():
        features = tuple(each.clone() for each in network.encode(pixels))
    with torch.no_grad():
        features = tuple(each.clone() for each in features)
    examples = []
    for prompts, clicks in ((3, 2), (5, 1)):
        points = torch.rand(prompts, clicks, 2, generator=source) * network.side
        examples.append((*features, points, torch.ones(prompts, clicks, dtype=torch.int32)))
    return Decoder().eval(), examples


def _to_onnx(module: Any, example: tuple["torch.Tensor", ...], part: str, stem: Path) -> None:
    import torch

    names = ["pixels"] if part == "encoder" else ["fine", "middle", "coarse", "points", "labels"]
    loose = {"points": {0: "prompts", 1: "clicks"}, "labels": {0: "prompts", 1: "clicks"}}
    torch.onnx.export(
        module,
        example,
        stem.with_suffix(".onnx"),
        input_names=names,
        opset_version=_OPSET,
        dynamic_axes={} if part == "encoder" else loose,
        dynamo=False,
    )


def _load(runtime: str, stem: Path) -> Compiled:
    if runtime == "openvino":
        import openvino

        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        graph = openvino.Core().compile_model(stem.with_suffix(".onnx"), "CPU", hints)
        return lambda *arrays: [np.array(each) for each in graph(list(arrays)).values()]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the shapes that it merges leniently are meant to be loose
    try:
        session = onnxruntime.InferenceSession(stem.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise RuntimeError(str(error)) from error  # its own errors have no base but Exception
    names = [each.name for each in session.get_inputs()]
    return lambda *arrays: list(session.run(None, dict(zip(names, arrays, strict=True))))
