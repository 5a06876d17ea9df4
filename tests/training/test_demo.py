"""`manage.py demo`: a new user's first minutes, in a process of its own with real workers."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo(home: Path, port: int, *arguments: str) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", f"--port={port}", "--frames=6", *arguments],
        cwd=ROOT,
        env={**environment, "FOVEA_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_ends_with_a_scored_result_and_a_second_run_finds_it(tmp_path: Path):
    first = demo(tmp_path, free_port(), "--no-serve")
    told, _ = first.communicate(timeout=200)
    assert first.returncode == 0, told
    assert "Frames                   6" in told
    assert float(told.split("Mean 3D IoU")[1].split()[0]) > 0.4
    exported = Path(told.split("Training dataset")[1].split()[0])
    assert (exported / "lineage.json").exists()
    assert len(list(exported.glob("kitti/*/image_2/*.png"))) == 6
    again = demo(tmp_path, free_port())
    assert again.stdout is not None
    for line in again.stdout:
        if "Ctrl-C stops it" in line:
            break
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 143
    assert list(tmp_path.glob("media/exports/*/lineage.json")) == [exported / "lineage.json"]


def test_a_port_in_use_is_said_before_anything_is_recorded(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = demo(tmp_path, taken.getsockname()[1])
        told, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Choose another --port" in told
    assert "Recording the scene" not in told
