"""Small real stereo networks as ONNX files: absolute differences over shifts, averaged, and a soft minimum."""

from pathlib import Path

import pytest

SHIFTS = 24


def write_network(
    path: Path,
    *,
    inputs: int = 2,
    channels: int = 3,
    channels_last: bool = False,
    size: tuple[int | str, int | str] = ("height", "width"),
    sharpness: float | None = None,
    output_channels: int = 1,
    metadata: dict[str, str] | None = None,
) -> Path:
    """channels: of one eye; inputs 1 stacks both. sharpness of the minimum: per unit of the input's range.

    Skips the test where what makes and runs such files is not installed.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node, tensor = onnx.helper.make_node, onnx.TensorProto
    nodes, constants = [], []

    def constant(name: str, values: list[float] | list[int], shape: list[int] | None = None, kind=tensor.INT64) -> str:
        constants.append(onnx.helper.make_tensor(name, kind, shape or [len(values)], values))
        return name

    count = channels * (2 if inputs == 1 else 1)
    shape = [1, *size, count] if channels_last else [1, count, *size]
    names = ["both"] if inputs == 1 else ["left", "right"]
    eyes = list(names)
    if channels_last:
        nodes += [node("Transpose", [name], [f"{name}_first"], perm=[0, 3, 1, 2]) for name in names]
        eyes = [f"{name}_first" for name in names]
    if inputs == 1:
        nodes.append(node("Split", [*eyes, constant("parts", [channels, channels])], ["one", "other"], axis=1))
        eyes = ["one", "other"]

    constant("columns", [3]), constant("start", [0])
    for shift in range(SHIFTS):
        moved = eyes[1]
        if shift:
            pads, end = constant(f"pads{shift}", [0, 0, 0, shift, 0, 0, 0, 0]), constant(f"end{shift}", [-shift])
            nodes.append(node("Pad", [moved, pads], [f"padded{shift}"], mode="edge"))
            nodes.append(node("Slice", [f"padded{shift}", "start", end, "columns"], [f"moved{shift}"]))
            moved = f"moved{shift}"
        nodes += [
            node("Sub", [eyes[0], moved], [f"apart{shift}"]),
            node("Abs", [f"apart{shift}"], [f"distance{shift}"]),
            node("ReduceMean", [f"distance{shift}"], [f"grey{shift}"], axes=[1], keepdims=1),
            node("AveragePool", [f"grey{shift}"], [f"cost{shift}"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]),
        ]
    sharpness = sharpness or (2.0 if inputs == 2 else 500.0)
    constant("sharpness", [-sharpness], kind=tensor.FLOAT)
    weights = [float(shift) for shift in range(SHIFTS)] + [0.0] * SHIFTS * (output_channels - 1)
    constant("disparities", weights, [output_channels, SHIFTS, 1, 1], tensor.FLOAT)
    nodes += [
        node("Concat", [f"cost{shift}" for shift in range(SHIFTS)], ["costs"], axis=1),
        node("Mul", ["costs", "sharpness"], ["scores"]),
        node("Softmax", ["scores"], ["likely"], axis=1),
        node("Conv", ["likely", "disparities"], ["disparity"]),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "stereo",
        [value(name, tensor.FLOAT, shape) for name in names],
        [value("disparity", tensor.FLOAT, [1, output_channels, *size])],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
