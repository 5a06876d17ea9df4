"""The house: what must lie where, and what must never be loaded where."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch",
    "torchvision",
    "sam2",
    "sam3",
    "transformers",
    "diffusers",
    "pyzed",
    "openai",
    "faiss",
    "ai_edge_litert",
)
SOURCES = ("platform", "labeling", "pipeline", "training")


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_platform_is_pythons_own():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert platform.system() in ("Linux", "Darwin", "Windows")
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'platform')!r}]; "
    assert python(f"{path}import platform, uuid; print(platform.python_version())").strip()


def test_no_package_of_ours_hides_one_of_pythons_or_a_well_known_one():
    taken = {*sys.stdlib_module_names, "datasets", "jobs", "review", "numpy", "django"}
    packages = {folder.name for folder in (ROOT / "platform").iterdir() if (folder / "__init__.py").exists()}
    assert packages
    assert not packages & taken


def test_training_is_ours_even_where_sam2_installs_another():
    assert (ROOT / "training" / "__init__.py").exists()
    reserved = {"dataset", "loss_fns", "model", "optimizer", "scripts", "train", "trainer", "utils"}
    assert not {path.stem for path in (ROOT / "training").iterdir()} & reserved


def test_training_is_ours_in_the_tests_too():
    import training

    assert Path(training.__file__).parent == ROOT / "training"


@pytest.mark.parametrize("top", SOURCES)
def test_every_package_has_an_init_and_no_module_has_a_name_that_says_nothing(top):
    for path in (ROOT / top).rglob("*.py"):
        if path.parent != ROOT / "platform":
            assert (path.parent / "__init__.py").exists(), path
        assert path.stem not in ("utils", "helpers", "manager", "data", "misc"), path


def test_every_folder_of_tests_is_a_package_and_none_is_called_platform():
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert (path.parent / "__init__.py").exists(), path.parent
    assert not (ROOT / "tests" / "platform").exists()


def test_every_migration_is_named_by_its_intent():
    for path in ROOT.glob("*/**/migrations/0*.py"):
        if ".venv" not in path.parts:
            assert not re.search(r"_auto_\d|_alter_.*_and_more$", path.stem), path


def test_the_web_process_loads_no_heavy_library(tmp_path):
    code = (
        "import sys, os; sys.path[:0] = ['.', 'platform']; "
        f"os.environ.update(DJANGO_SETTINGS_MODULE='config.settings', FOVEA_HOME={str(tmp_path)!r}); "
        "import config.asgi; from django.urls import get_resolver; get_resolver().url_patterns; "
        "from django.test import Client; print(Client().get('/healthz', headers={'host': 'localhost'}).status_code); "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    assert python(code).split("\n")[:2] == ["200", "[]"]


def test_the_engine_and_the_formats_have_never_heard_of_django():
    pattern = re.compile(
        r"^\s*(?:from|import)\s+(django|rest_framework|channels|django_q|config|core|accounts|labeling)\b", re.M
    )
    for folder in ("pipeline", "training/formats"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not pattern.search(path.read_text()), path


def test_the_import_contracts_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform")))}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
