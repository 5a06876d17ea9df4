"""`manage.py up`, really started and really killed."""

import os
import signal
import socket
import stat
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.segmentation.model_client import ask
from tests.core.running import ROOT, Fovea

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fovea(tmp_path_factory):
    fovea = Fovea(tmp_path_factory.mktemp("up"))
    fovea.ready_after = fovea.up()
    yield fovea
    fovea.remove()


def test_it_is_ready_in_ten_seconds_on_a_fresh_home(fovea):
    assert fovea.ready_after < 10
    fovea.wait(lambda: f"http://localhost:{fovea.port}/" in fovea.log.read_text(), 5)


def test_idle_it_needs_less_than_300_mb(fovea):
    fovea.wait(lambda: len(fovea.pids("worker")) >= 6, 20)
    assert fovea.memory_pss() < 300e6


def test_a_killed_web_server_comes_back_and_refuses_nobody_meanwhile(fovea):
    [before] = fovea.pids("web")
    os.kill(before, signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", fovea.port), timeout=15) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert fovea.pids("web") != [before]


@pytest.mark.parametrize("which", ["main", "sentinel", "idle"])
def test_a_killed_worker_process_ends_its_cluster_and_a_new_one_starts(fovea, which):
    fovea.wait(lambda: len(fovea.pids("worker")) >= 6, 20)
    before = fovea.pids("worker")
    os.kill(before[{"main": 0, "sentinel": 1, "idle": 2}[which]], signal.SIGKILL)
    fovea.wait(lambda: not set(before) & set(fovea.pids("worker")), 15)
    fovea.wait(lambda: len(fovea.pids("worker")) >= len(before), 20)


def test_a_worker_for_the_gpu_queue_starts_with_the_first_work_there_is_for_it(fovea):
    def gpu_workers():
        return [line for line in fovea.processes().values() if "--queue=gpu" in line]

    assert gpu_workers() == []
    fovea.shell(
        "from core.work import transition\n"
        "from labeling.jobs.models import ProcessingJob\n"
        "from pipeline.stages.plan import PipelineConfig\n"
        "config = PipelineConfig(stages_to_run=('extraction',)).to_json()\n"
        "job = ProcessingJob.objects.create(name='Empty', config=config, stages=['extraction'], queue='gpu')\n"
        "transition(job, 'start')"
    )
    fovea.wait(lambda: fovea.query("SELECT status FROM jobs_processingjob") == [("completed",)], 30)
    assert gpu_workers()


def test_models_are_served_from_the_first_click_on_and_again_after_a_kill(fovea):
    address = fovea.home / "run" / f"models-{socket.gethostname()}.sock"
    fovea.wait(lambda: fovea.pids("worker") and address.exists(), 60)
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert fovea.pids("model_server") == []  # nobody asked yet
    image = fovea.home / "media" / "jobs" / "000000.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((120, 160, 3), 90, np.uint8)
    cv2.circle(pixels, (80, 60), 30, (30, 30, 200), -1)
    cv2.imwrite(str(image), pixels)
    request = {"image": str(image), "box": [45, 25, 70, 70]}
    assert ask(address, request)["embedded"] is True
    assert ask(address, request)["embedded"] is False  # the same process, with what it saw
    [server] = fovea.pids("model_server")
    os.kill(server, signal.SIGKILL)
    assert ask(address, request)["masks"]
    [again] = fovea.pids("model_server")
    assert again != server


def test_a_second_one_on_the_same_port_says_so(fovea):
    second = subprocess.run(
        [sys.executable, "manage.py", "up", f"--port={fovea.port}"],
        cwd=ROOT, env=fovea.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{fovea.port}: Address already in use" in second.stderr


def test_when_it_is_killed_nothing_is_left(fovea):
    os.kill(fovea.process.pid, signal.SIGKILL)
    fovea.ended()
    left = Fovea.processes
    deadline = 50
    while left(fovea) and deadline:
        deadline -= 1
        signal.sigtimedwait([], 0.1)
    assert left(fovea) == {}


def test_started_again_it_stops_cleanly_and_soon(fovea):
    fovea.up()
    assert fovea.stop() < 8
    assert fovea.processes() == {}
