"""Fixtures shared by all tests: where the real recordings and the small real models lie."""

import os
from pathlib import Path

import pytest
from django.core.cache import cache

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default).resolve()
    if not folder.is_dir():
        pytest.skip(f"{variable} points to no folder: real files are not here")
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real recordings and ground truth (`FOVEA_TEST_DATA`)."""
    return _folder("FOVEA_TEST_DATA", "data")


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """Small real models (`FOVEA_MODELS_DIR`)."""
    return _folder("FOVEA_MODELS_DIR", "weights")


@pytest.fixture(autouse=True)
def home(settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own for every test: nothing is written into the checkout, nothing is found from another test."""
    folder = tmp_path_factory.mktemp("home")
    settings.HOME = folder
    settings.MEDIA_ROOT = folder / "media"
    for name in ("jobs", "exports", "uploads", "datasets", "calibrations", "model_versions"):
        setattr(settings, f"{name.upper()}_ROOT", settings.MEDIA_ROOT / name)
    settings.DATA_ROOTS = [folder / "recordings"]
    settings.DATA_ROOTS[0].mkdir()
    cache.clear()
    settings.CALIBRATION_FOLDERS = []
    settings.MODELS_FOLDERS = [folder / "models"]
    return folder


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory):
    """A recording of the simulated street corner: 8 frames of 672x376 as a ZED writes them, calibration and truth."""
    from pipeline.simulation.recording import write_demo_recording

    return write_demo_recording(tmp_path_factory.mktemp("street"), frames=8, workers=1)
