import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.deeplab_runtime import LOGITS_TENSOR
from pipeline.segmentation.tflite_weights import convolutions, ending_at

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="the runtime of the tflite file is not installed"
)


@pytest.fixture(scope="module")
def path(models_folder):
    return models_folder / registry.DEEPLAB_FILE


def test_every_convolution_of_mobilenet_and_the_decoder_is_read(path):
    found = convolutions(path)
    assert len(found) == 55
    assert found[0].weight.shape == (32, 3, 3, 3)
    assert (found[0].stride, found[0].activation) == (2, "relu6")
    assert found[-1].weight.shape == (21, 256, 1, 1)
    assert found[-1].activation == "none"
    assert sum(each.depthwise for each in found) == 17
    assert [each.dilation for each in found if each.depthwise][-3:] == [2, 2, 2]
    assert all(each.weight.dtype == each.bias.dtype == np.float32 for each in found)


def test_weights_are_the_numbers_that_the_runtime_computes_with(path):
    runtime = interpreter.Interpreter(str(path))
    runtime.allocate_tensors()
    details = next(
        each
        for each in runtime.get_tensor_details()
        if "logits/semantic/weights_quant" in each["name"] and tuple(each["shape"]) == (21, 1, 1, 256)
    )
    scale, zero = details["quantization"]
    expected = (runtime.get_tensor(details["index"]).astype(float) - zero) * scale
    assert np.allclose(convolutions(path)[-1].weight, expected.transpose(0, 3, 1, 2), atol=1e-7)


def test_a_network_that_ends_earlier_gives_what_lies_inside_the_whole_one(path):
    content, (index,) = ending_at(path, (LOGITS_TENSOR,))
    image = np.random.default_rng(2).integers(0, 255, (1, 513, 513, 3), np.uint8)
    results = []
    for source in ({"model_content": content}, {"model_path": str(path), "experimental_preserve_all_tensors": True}):
        runtime = interpreter.Interpreter(
            **source,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        runtime.allocate_tensors()
        runtime.set_tensor(runtime.get_input_details()[0]["index"], image)
        runtime.invoke()
        results.append(runtime.get_tensor(index))
    assert results[0].shape == (1, 33, 33, 21)
    assert np.array_equal(*results)


def test_another_file_is_refused_by_name(tmp_path, path, models_folder):
    wrong = tmp_path / "wrong.tflite"
    wrong.write_bytes(b"not a flatbuffer")
    with pytest.raises(SegmenterUnavailableError, match=r"wrong\.tflite is not a \.tflite file"):
        convolutions(wrong)
    with pytest.raises(SegmenterUnavailableError, match="has no tensor nothing"):
        ending_at(path, ("nothing",))
    with pytest.raises(SegmenterUnavailableError, match="another network"):
        ending_at(models_folder / "mobilenet_v2_1.0_224_quant.tflite", (LOGITS_TENSOR,))
