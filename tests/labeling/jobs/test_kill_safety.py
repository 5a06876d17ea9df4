"""kill -9 of the workers, of the web server, of everything, in every stage: the job completes, to the same bytes."""

import json
import os
import signal
import time
import urllib.request

import pytest

from tests.core.running import Fovea
from tests.labeling.jobs.outputs import tree_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
FRAMES = 5
LINES_BEFORE_THE_KILL = {"extraction": 2, "segmentation": 2, "reconstruction": 1, "tracking": 0}

KEY = """
from accounts.models import User
from accounts.services import create_api_key
print(create_api_key(user=User.objects.create_user("mira@example.org"), name="test", access="write")[1])
"""
ROWS = """
import json
from django.core.serializers.json import DjangoJSONEncoder
from labeling.jobs.models import ProcessingJob
from tests.labeling.jobs.outputs import rows_of
print(json.dumps(rows_of(ProcessingJob.objects.get(pk={pk!r})), cls=DjangoJSONEncoder))
"""


class Killing:
    """Jobs over one recording in a running Fovea."""

    def __init__(self, fovea, recording):
        self.fovea = fovea
        self.recording = recording
        self.key = fovea.shell(KEY).splitlines()[-1]

    def start(self):
        """A new job, over the API: an interpreter of its own would take seconds to start."""
        parameters = {"segmenter": "geometric", "confidence_threshold": 0.2}
        body = {"input_paths": [str(self.recording)], **parameters, "start": True}
        request = urllib.request.Request(  # noqa: S310
            f"{self.fovea.address}/api/v1/jobs/create",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.loads(response.read())["id"]

    def folder(self, job):
        return self.fovea.home / "media" / "jobs" / job

    def wait_for(self, job, stage):
        """Until the stage has begun, and has written some lines of its journal."""
        path = self.folder(job) / "demo" / ".journal" / f"{stage}.jsonl"
        wanted = LINES_BEFORE_THE_KILL[stage]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                return
            time.sleep(0.002)
        raise AssertionError(f"{stage} did not begin:\n{self.fovea.tail()}")

    def completed(self, job):
        def status():
            query = "SELECT status, error, progress FROM jobs_processingjob WHERE id = ?"
            [(found, error, progress)] = self.fovea.query(query, job.replace("-", ""))
            assert found not in ("failed", "cancelled"), f"{error}\n{self.fovea.tail()}"
            return found == "completed" and progress == 1

        self.fovea.wait(status, 60)

    def left_by(self, job):
        """The tree of files and the rows, each as one comparable value."""
        return tree_of(self.folder(job)), json.loads(self.fovea.shell(ROWS.format(pk=job)).splitlines()[-1])


@pytest.fixture(scope="module")
def killing(tmp_path_factory):
    from pipeline.simulation.recording import write_demo_recording

    fovea = Fovea(tmp_path_factory.mktemp("kill"))
    write_demo_recording(fovea.home / "recordings", frames=FRAMES, workers=2)
    fovea.up("--workers=1")
    killing = Killing(fovea, fovea.home / "recordings" / "demo.svo2")
    job = killing.start()
    killing.completed(job)
    killing.undisturbed = killing.left_by(job)
    yield killing
    fovea.remove()


def test_an_undisturbed_job_finds_something(killing):
    tree, rows = killing.undisturbed
    assert len(rows["frames"]) == FRAMES
    assert rows["detections"]
    assert rows["tracks"]
    assert {path.split("/")[1] for path in tree} >= {"image_left", "image_right", "depth", "velodyne", "label_2"}
    assert {"demo/frame_registry.json", "demo/detections/detections.json", "demo/tracks.json"} <= set(tree)


def kill_the_busy_worker(fovea):
    owners = fovea.query("SELECT lease_owner FROM jobs_processingjob WHERE lease_owner != ''")
    for (owner,) in owners:
        try:
            os.kill(int(owner.split("|")[1]), signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_the_web_server(fovea):
    fovea.kill("web")


def kill_everything_and_start_again(fovea):
    fovea.kill_everything()
    fovea.up("--workers=1")


@pytest.mark.parametrize("kill", [kill_the_busy_worker, kill_the_web_server, kill_everything_and_start_again])
def test_killed_in_every_stage_it_completes_to_the_same_bytes_and_rows(killing, kill):
    job = killing.start()
    for stage in LINES_BEFORE_THE_KILL:
        killing.wait_for(job, stage)
        kill(killing.fovea)
    killing.completed(job)
    tree, rows = killing.left_by(job)
    assert tree == killing.undisturbed[0]
    assert rows == killing.undisturbed[1]
