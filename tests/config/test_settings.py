"""Settings come from the environment, all of it documented, and are safe as they are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (ROOT / "platform" / "config" / "settings.py").read_text()


def manage(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**clean, "FOVEA_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_lists_exactly_the_variables_that_are_read():
    read = set(re.findall(r'(?:env\.\w+|_paths)\(\s*"([A-Z_]+)"', SETTINGS)) - {"AXES_ENABLED"}
    for path in (ROOT / "pipeline").rglob("*.py"):  # the engine reads a few of its own, by name
        read |= set(re.findall(r'SETTING: Final = "(FOVEA_[A-Z_]+)"', path.read_text()))
    listed = set(re.findall(r"^#?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert read == listed


def test_production_settings_pass_djangos_own_check_without_a_warning(tmp_path):
    done = manage(
        "check",
        "--deploy",
        "--fail-level",
        "WARNING",
        home=tmp_path,
        HTTPS="1",
        ALLOWED_HOSTS="fovea.example.org",
        CSRF_TRUSTED_ORIGINS="https://fovea.example.org",
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_the_secret_key_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    code = "from django.conf import settings; print(settings.SECRET_KEY)"
    first, second = (manage("shell", "--no-imports", "-c", code, home=tmp_path).stdout for _ in range(2))
    assert len(first.strip()) >= 64
    assert first == second
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_no_model_has_changes_without_a_migration(tmp_path):
    done = manage("makemigrations", "--check", "--dry-run", home=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["DEBUG", "HTTPS"])
def test_a_switch_that_is_neither_on_nor_off_is_off(tmp_path, name):
    code = f"from django.conf import settings; print(settings.{name})"
    assert manage("shell", "--no-imports", "-c", code, home=tmp_path, **{name: "0"}).stdout.strip() == "False"
