"""What lies in a .tflite file: its convolutions as floating-point arrays, and the same network ending earlier."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SegmenterUnavailableError

_ACTIVATIONS: Final[dict[int, Literal["none", "relu", "relu6"]]] = {0: "none", 1: "relu", 3: "relu6"}


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution of the file, batch normalisation folded in.

    weight: float32 (out, in, kh, kw), for a depthwise one (channels, 1, kh, kw). bias: float32 (out,). name: that of
    its output tensor.
    """

    name: str
    depthwise: bool
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int
    dilation: int
    activation: Literal["none", "relu", "relu6"]


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise SegmenterUnavailableError(
            "segmenter deeplab: the package ai-edge-litert, which reads .tflite files, is not installed."
        ) from error
    return schema_py_generated


def _read(path: Path) -> Any:
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise SegmenterUnavailableError(f"{path.name} is not a .tflite file.")
    return _schema().ModelT.InitFromPackedBuf(content, 0)


def convolutions(path: Path) -> list[Convolution]:
    """Every convolution in the order in which the file runs them. Raises SegmenterUnavailableError for other files."""
    schema, model = _schema(), _read(path)
    graph = model.subgraphs[0]
    kinds = {schema.BuiltinOperator.CONV_2D: False, schema.BuiltinOperator.DEPTHWISE_CONV_2D: True}
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind not in kinds:
            continue
        depthwise, options = kinds[kind], operator.builtinOptions
        weight, bias = (_floats(model, graph.tensors[index]) for index in operator.inputs[1:3])
        # Stored (out, kh, kw, in), and (1, kh, kw, channels) where each channel has its own kernel.
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        found.append(
            Convolution(
                graph.tensors[operator.outputs[0]].name.decode(),
                depthwise,
                np.ascontiguousarray(weight),
                bias,
                int(options.strideH),
                int(options.dilationHFactor),
                _ACTIVATIONS[options.fusedActivationFunction],
            )
        )
    return found


def _floats(model: Any, tensor: Any) -> NDArray[np.float32]:
    """A constant tensor as the numbers its integers stand for."""
    dtype = {2: np.int32, 3: np.uint8, 9: np.int8, 0: np.float32}[tensor.type]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype).reshape(tensor.shape)
    scale, zero = tensor.quantization.scale, tensor.quantization.zeroPoint
    if scale is None or not len(scale):
        return values.astype(np.float32)
    return np.asarray((values.astype(np.float64) - int(zero[0])) * float(scale[0]), dtype=np.float32)


def ending_at(path: Path, names: tuple[str, ...]) -> tuple[bytes, list[int]]:
    """The same network as a file's content with the tensors called `names` for outputs and without what follows them;
    and their indices.

    So the runtime may optimise the graph and still yield what lies inside it. Raises SegmenterUnavailableError where a
    tensor is not there.
    """
    model = _read(path)
    import flatbuffers

    graph = model.subgraphs[0]
    wanted = []
    for name in names:
        producers = [
            int(operator.outputs[0])
            for operator in graph.operators
            if graph.tensors[operator.outputs[0]].name.decode() == name
        ]
        if not producers:
            raise SegmenterUnavailableError(f"{path.name} has no tensor {name}: it is another network.")
        wanted.append(producers[0])
    last = max(number for number, operator in enumerate(graph.operators) if operator.outputs[0] in wanted)
    graph.operators = graph.operators[: last + 1]
    graph.outputs = np.array(wanted, np.int32)
    model.signatureDefs = None
    model.metadata = None
    builder = flatbuffers.Builder(path.stat().st_size + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()), wanted
