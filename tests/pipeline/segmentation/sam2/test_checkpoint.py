"""Checkpoints of Meta's, through both implementations of the network."""

import pickle
import shutil

import numpy as np
import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import weights
from pipeline.segmentation.automatic_masks import Selection
from pipeline.segmentation.base import ClassSpec, Prompt, View
from pipeline.segmentation.sam2.segmenter import Sam2

CRATE = ClassSpec(4, "crate")
FEW = Selection(points_per_side=3, quality=0.5, stability=0.5)


@pytest.fixture
def both(meta_folder):
    made = [Sam2((CRATE,), (meta_folder.path,), runtime=each, selection=FEW) for each in ("transformers", "sam2")]
    assert [each.description for each in made] == [
        f"{meta_folder.family}-tiny, {each} on cpu, float32" for each in ("transformers", "sam2")
    ]
    return made


def test_the_renamed_checkpoint_computes_what_metas_own_code_computes(both, truck, film):
    embeddings = [sam.embed(truck) for sam in both]
    for ours, theirs in zip(*(each.features for each in embeddings), strict=True):
        assert np.abs(ours.numpy() - theirs.numpy()).max() < 1e-5
    mask = np.zeros(truck.shape[:2], bool)
    mask[50:120, 60:200] = True
    click, labels, box = np.array([[150.0, 100.0]]), np.array([1]), np.array([60.0, 50, 200, 120])
    for prompt in (
        Prompt(points_xy=click, point_labels=labels),
        Prompt(box_xyxy=box),
        Prompt(mask=mask),
        Prompt(points_xy=click, point_labels=labels, box_xyxy=box, mask=mask),
    ):
        ours, theirs = (sam.predict(each, prompt) for sam, each in zip(both, embeddings, strict=True))
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert np.abs(a.logits - b.logits).max() < 1e-3 * np.abs(b.logits).max()
            assert a.quality == pytest.approx(b.quality, abs=1e-5)
    ours, theirs = (sam.segment([View(truck)])[0] for sam in both)
    assert len(ours) == len(theirs) > 0
    assert all(np.mean(a.mask == b.mask) > 0.999 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_both_follow_an_object_alike(both, film, direction):
    prompts = {
        (0, 1): Prompt(box_xyxy=np.array([20.0, 30, 50, 60])),
        (3, 1): Prompt(points_xy=np.array([[40.0, 45], [5, 5]]), point_labels=np.array([1, 0])),
        (2, 9): Prompt(mask=film(5)[2][:, :, 1] > 100),
    }
    ours, theirs = (list(sam.propagate(film(5), prompts, direction)) for sam in both)
    assert [step.frame for step in ours] == [step.frame for step in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.logits.keys() == b.logits.keys()
        for each in a.logits:
            assert np.mean((a.logits[each] > 0) == (b.logits[each] > 0)) > 0.995
            assert a.confidence[each] == pytest.approx(b.confidence[each], abs=1e-3)


def test_metas_package_forgets_too(meta_folder, film):
    from pipeline.segmentation.sam2 import meta_network

    sam = Sam2((CRATE,), (meta_folder.path,), runtime="sam2")
    kept = []
    step = meta_network._Memory._step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            meta_network._Memory,
            "_step",
            lambda memory, *rest, **more: (
                step(memory, *rest, **more),
                kept.append(sum(len(each) for each in memory._outputs.values())),
            )[0],
        )
        list(sam.propagate(film(24), {(0, 1): Prompt(box_xyxy=np.array([20.0, 30, 50, 60]))}))
    assert max(kept) == kept[-1] == 18


@pytest.fixture
def copied(meta_folder, tmp_path):
    """A copy of the single file that may be spoilt."""
    from pathlib import Path

    return Path(shutil.copy(next(meta_folder.path.glob("*.pt")), tmp_path))


@pytest.mark.parametrize("runtime", ["transformers", "sam2"])
def test_a_checkpoint_of_another_size_is_refused(meta_folder, copied, runtime, monkeypatch):
    from dataclasses import replace

    from pipeline.segmentation.sam2.architecture import ARCHITECTURES

    monkeypatch.setitem(ARCHITECTURES, "tiny", replace(ARCHITECTURES["tiny"], channels=24))
    with pytest.raises(SegmenterUnavailableError, match=r"_hiera_tiny.pt belongs to (a model of another size|another)"):
        Sam2((CRATE,), (copied.parent,), runtime=runtime)


def test_a_checkpoint_of_another_kind_is_refused(torch, copied):
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, copied)
    with pytest.raises(SegmenterUnavailableError, match=r"belongs to another model: \d+ of its tensors"):
        Sam2((CRATE,), (copied.parent,))
    torch.save([1, 2, 3], copied)
    with pytest.raises(SegmenterUnavailableError, match="no tensors under 'model'"):
        Sam2((CRATE,), (copied.parent,))


def test_a_damaged_checkpoint_is_refused(copied):
    content = bytearray(copied.read_bytes())
    copied.write_bytes(content[: len(content) // 2])
    with pytest.raises(SegmenterUnavailableError, match="damaged or cut short"):
        Sam2((CRATE,), (copied.parent,))


class Thief:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_nothing_in_a_checkpoint_is_executed(torch, copied):
    torch.save({"model": {"a": torch.zeros(1), "b": Thief()}}, copied, pickle_module=pickle)
    with pytest.raises(SegmenterUnavailableError, match="holds more than numbers"):
        Sam2((CRATE,), (copied.parent,))


def test_the_published_hash_is_asked_for(meta_folder, copied, monkeypatch):
    from dataclasses import replace

    name = f"{meta_folder.family}-tiny"
    published = replace(weights.CATALOGUE[name], sha256={copied.name: "0" * 64})
    monkeypatch.setitem(weights.CATALOGUE, name, published)
    with pytest.raises(SegmenterUnavailableError, match=r"damaged or another version.*000000000000"):
        Sam2((CRATE,), (copied.parent,))


def test_a_folder_whose_weights_do_not_fit_its_configuration_is_refused(hub_folder, tmp_path):
    import json

    shutil.copytree(hub_folder / "sam2.1-hiera-tiny", tmp_path / "sam2.1-hiera-tiny")
    path = tmp_path / "sam2.1-hiera-tiny" / "config.json"
    config = json.loads(path.read_text())
    config["memory_attention_num_layers"] = 2
    path.write_text(json.dumps(config))
    with pytest.raises(SegmenterUnavailableError, match=r"sam2.1-hiera-tiny: .*another model"):
        Sam2((CRATE,), (tmp_path,))
    config["memory_attention_num_layers"], config["image_size"] = 1, "wide"
    path.write_text(json.dumps(config))
    with pytest.raises(SegmenterUnavailableError, match=r"sam2.1-hiera-tiny: the weights do not fit its config.json"):
        Sam2((CRATE,), (tmp_path,))


def test_metas_package_reads_no_folder_of_the_hubs(hub_folder):
    with pytest.raises(SegmenterUnavailableError, match=r"model.safetensors needs the package transformers"):
        Sam2((CRATE,), (hub_folder,), runtime="sam2")


def test_nothing_there_is_said_with_names(tmp_path):
    with pytest.raises(SegmenterUnavailableError, match=r"sam2.1_hiera_large.pt or .*none of the folders of FOVEA_MOD"):
        Sam2((CRATE,), (tmp_path,), "large")
