"""A real SAM 2 of the smallest size, with random weights, saved as the hub and as Meta publish theirs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.segmentation import weights
from tests.pipeline.segmentation.tiny_sam import SAM2_SIDE, made_confident, save_sam2


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `sam`)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra `sam`)")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="session")
def hub_folder(torch, tmp_path_factory) -> Path:
    """A models folder with sam2.1-hiera-tiny/ as transformers saves it."""
    return save_sam2(torch, tmp_path_factory.mktemp("models"))


SMALL = ("t", 16, 1, (1, 1, 2, 1), (3,))


@dataclass(frozen=True)
class MetaFolder:
    path: Path
    family: str


@pytest.fixture(scope="session", params=["sam2.1", "sam2"])
def published(request, torch, tmp_path_factory) -> MetaFolder:
    """A models folder with a single file as Meta publishes it: built by the sam2 package, with a small encoder."""
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    from sam2.build_sam import build_sam2

    from pipeline.segmentation.sam2 import architecture

    family = request.param
    overrides = architecture.hydra_overrides(architecture.Architecture(*SMALL, side=SAM2_SIDE))
    torch.manual_seed(2)
    model = build_sam2(f"configs/{family}/{family}_hiera_t.yaml", None, device="cpu", hydra_overrides_extra=overrides)
    made_confident(torch, model.sam_mask_decoder, lambda head: head.layers[-1], 50)
    folder = tmp_path_factory.mktemp(family.replace(".", "_"))
    torch.save({"model": model.state_dict()}, folder / f"{family}_hiera_tiny.pt")
    return MetaFolder(folder, family)


@pytest.fixture
def meta_folder(published, monkeypatch) -> MetaFolder:
    """The same, with "tiny" meaning that small encoder, whose SHA-256 nobody has published."""
    from pipeline.segmentation.sam2 import architecture

    monkeypatch.setitem(architecture.ARCHITECTURES, "tiny", architecture.Architecture(*SMALL, side=SAM2_SIDE))
    for name in ("sam2.1-tiny", "sam2-tiny"):
        monkeypatch.setitem(weights.CATALOGUE, name, replace(weights.CATALOGUE[name], sha256={}))
    return published


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """Compiling takes seconds: only the tests that are about it do it."""
    monkeypatch.setenv("FOVEA_SAM_COMPILED", "no")
    monkeypatch.delenv("FOVEA_DEVICE", raising=False)


@pytest.fixture(scope="session")
def truck(data_folder) -> np.ndarray:
    import cv2

    return cv2.resize(cv2.imread(str(data_folder / "video_sam2" / "truck.jpg")), (300, 200))
