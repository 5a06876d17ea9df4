import json

import cv2
import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import registry
from pipeline.segmentation.base import ClassSpec, View
from pipeline.segmentation.deeplab import DeepLab, _letterboxed
from pipeline.segmentation.deeplab_runtime import SIDE, LiteNetwork, OnnxNetwork
from pipeline.segmentation.vocabulary import VOC

pytest.importorskip("ai_edge_litert", reason="the runtime of the tflite file is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
network_of = pytest.importorskip("pipeline.segmentation.deeplab_torch")


@pytest.fixture(scope="module")
def path(models_folder):
    return models_folder / registry.DEEPLAB_FILE


@pytest.fixture
def network(path):
    return network_of.read_network(path)


@pytest.fixture(scope="module")
def canvases(data_folder):
    files = [
        data_folder / "video_sam2" / "truck.jpg",
        *sorted((data_folder / "coco8" / "coco8-seg").rglob("*.jpg"))[:5],
    ]
    return [_letterboxed(cv2.imread(str(each))) for each in files]


def through(network, canvases):
    """Logits (n, 33, 33, classes)."""
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).float()
        return network(pixels).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def balloons(data_folder):
    """Two photos letterboxed to the network's square, and which pixels are balloons: 255 outside the photo."""
    annotations = json.loads((data_folder / "balloon" / "train" / "via_region_data.json").read_text())
    images, labels = [], []
    for entry in sorted(annotations.values(), key=lambda each: each["filename"])[:2]:
        image = cv2.imread(str(data_folder / "balloon" / "train" / entry["filename"]))
        scale = SIDE / max(image.shape[:2])
        label = np.full((SIDE, SIDE), network_of.IGNORED, np.int64)
        label[: round(image.shape[0] * scale), : round(image.shape[1] * scale)] = 0
        regions = entry["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            shape = region["shape_attributes"]
            points = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1) * scale
            label = cv2.fillPoly(label.astype(np.int32), [points.astype(np.int32)], 1).astype(np.int64)
        images.append(_letterboxed(image))
        labels.append(label)
    return np.stack(images), np.stack(labels)


def test_the_rebuilt_network_agrees_with_the_file_on_real_images(path, network, canvases):
    lite = np.stack([grid.logits for grid in LiteNetwork(path).run(canvases)])
    ours = through(network, canvases)
    assert np.mean(lite.argmax(axis=-1) == ours.argmax(axis=-1)) >= 0.98
    assert np.corrcoef(lite.ravel(), ours.ravel())[0, 1] >= 0.99


def test_the_exported_network_gives_what_the_rebuilt_one_gives(tmp_path, network, canvases):
    network_of.save_checkpoint(network, tmp_path / "same.safetensors")
    (tmp_path / "same.onnx").write_bytes(network_of.to_onnx(network))
    ours = through(network, canvases[:1])
    for name in ("same.safetensors", "same.onnx"):
        exported = OnnxNetwork(tmp_path / name)
        assert exported.class_names == VOC
        grids = exported.run(canvases[:1])
        assert np.allclose([each.logits for each in grids], ours, atol=1e-3)
        assert grids[0].features.shape == (33, 33, 256)


@pytest.mark.slow
def test_a_few_steps_teach_it_a_class_it_never_knew_and_a_checkpoint_keeps_that(tmp_path, network, balloons, canvases):
    images, labels = balloons
    backbone = network.stem.weight.clone(), network.blocks[-1].project.weight.clone()
    network.adapt_head(["balloon"])
    losses = network_of.fit(network, [(images[:1], labels[:1]), (images[1:], labels[1:])] * 5)
    assert np.mean(losses[-2:]) < 0.6 * np.mean(losses[:2])
    assert torch.equal(network.stem.weight, backbone[0])
    assert torch.equal(network.blocks[-1].project.weight, backbone[1])
    found = through(network, images).argmax(axis=-1) == 1
    truth = labels[:, ::16, ::16] == 1
    known = labels[:, ::16, ::16] != network_of.IGNORED
    assert np.count_nonzero(found & truth) / np.count_nonzero((found | truth) & known) > 0.4

    network_of.save_checkpoint(network, tmp_path / "balloons.safetensors")
    again = network_of.load_checkpoint(tmp_path / "balloons.safetensors")
    assert again.class_names == ("background", "balloon")
    assert np.array_equal(through(again, canvases[:1]), through(network, canvases[:1]))

    segmenter = DeepLab((ClassSpec(9, "Balloon"), ClassSpec(3, "car")), (), tmp_path / "balloons.safetensors")
    canvas = np.ascontiguousarray(images[0][..., ::-1])
    instances = segmenter.segment([View(canvas)])[0]
    assert {each.class_id for each in instances} == {9}
    union = np.any([each.mask for each in instances], axis=0)
    assert np.count_nonzero(union & (labels[0] == 1)) > 0.4 * np.count_nonzero(labels[0] == 1)


def test_the_whole_network_can_be_trained_too(network, balloons):
    images, labels = (each[:1, ::2, ::2] for each in balloons)
    network.adapt_head(["balloon"])
    before = network.stem.weight.clone()
    losses = network_of.fit(network, [(images, labels)] * 4, learning_rate=0.003, decoder_only=False)
    assert losses[-1] < losses[0]
    assert not torch.equal(network.stem.weight, before)


def test_training_again_gives_the_same_weights(path, balloons):
    images, labels = (each[:1, ::2, ::2] for each in balloons)
    weights = []
    for _ in range(2):
        network = network_of.read_network(path)
        network.adapt_head(["balloon"])
        network_of.fit(network, [(images, labels)] * 2)
        weights.append(network.head.weight.detach().numpy())
    assert np.array_equal(*weights)


def test_a_head_of_new_classes_keeps_what_the_names_mean(network):
    old = network.head.weight.detach().clone()
    network.adapt_head(["pedestrian", "crate", "Car"])
    assert network.class_names == ("background", "pedestrian", "crate", "Car")
    for number, name in ((0, "background"), (1, "person"), (3, "car")):
        assert torch.equal(network.head.weight[number], old[VOC.index(name)])
    assert network.head.weight[2].abs().max() < 0.1


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_or_missing_checkpoint_is_named(tmp_path, content):
    for suffix in ("safetensors", "onnx"):
        path = tmp_path / f"broken.{suffix}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SegmenterUnavailableError, match=rf"broken\.{suffix}"):
            DeepLab((ClassSpec(1, "car"),), (), path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, network):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.save({"a": torch.zeros(3)}))
    with pytest.raises(SegmenterUnavailableError, match="not a checkpoint of the DeepLab network"):
        network_of.load_checkpoint(path)
    metadata = {"format": network_of.FORMAT, "classes": json.dumps(["background", "car"])}
    path.write_bytes(safetensors.save({"a": torch.zeros(3)}, metadata=metadata))
    with pytest.raises(SegmenterUnavailableError, match="does not fit"):
        network_of.load_checkpoint(path)


def test_a_file_of_another_network_is_not_read_as_this_one(models_folder):
    with pytest.raises(SegmenterUnavailableError, match="is not DeepLab"):
        network_of.read_network(models_folder / "mobilenet_v2_1.0_224_quant.tflite")
