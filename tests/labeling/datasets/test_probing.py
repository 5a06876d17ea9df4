import shutil
import signal
import time

import pytest

from labeling.datasets import probing
from labeling.datasets.probing import Prober
from pipeline.errors import Stopped


def test_a_real_recording_is_described_with_its_calibration(data_folder):
    with Prober() as prober:
        probe = prober.probe(data_folder / "svo2_zed2i/test.svo2")
    assert probe.error == ""
    assert (probe.metadata["frame_count"], probe.metadata["camera_serial"]) == (12, "33234316")
    assert probe.calibration["translation"][0] == pytest.approx(-0.12, abs=0.001)


def test_one_child_answers_for_many_files(data_folder):
    with Prober() as prober:
        for name in ("empty.svo2", "head.svo2", "not_a_video.mp4"):
            probe = prober.probe(data_folder / "bad_files/made_here" / name)
            assert name in probe.error
            pid = prober._child.pid
        assert prober.probe(data_folder / "svo2_like/euroc_h264.svo2").metadata["frame_count"] == 20
        assert prober._child.pid == pid


def test_a_file_whose_reader_crashes_gets_a_sentence_and_the_next_one_is_read(data_folder, monkeypatch):
    good = data_folder / "svo2_like/euroc_h264.svo2"
    with Prober() as prober:
        prober.probe(good)
        prober._child.send_signal(signal.SIGSTOP)
        # The request is written to a process that dies before it answers, as by a segmentation fault.
        ask = prober._ask

        def dies(request, waiting):
            prober._child.kill()
            return ask(request, waiting) if prober._child.wait() is None else b""

        monkeypatch.setattr(prober, "_ask", dies)
        assert "crashed" in prober.probe(good).error
        monkeypatch.undo()
        assert prober.probe(good).metadata["frame_count"] == 20


def test_a_reader_that_hangs_is_given_up_in_time(data_folder):
    with Prober(timeout=8) as prober:
        prober.probe(data_folder / "svo2_like/euroc_h264.svo2")
        prober._child.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        probe = prober.probe(data_folder / "svo2_like/euroc_h264.svo2")
    assert probe.code == "recording_timeout"
    assert time.monotonic() - began < 30


def test_being_stopped_while_waiting_ends_the_child(data_folder, monkeypatch):
    monkeypatch.setattr(probing, "WAIT_SECONDS", 0.01)

    def stop():
        raise Stopped

    with Prober() as prober, pytest.raises(Stopped):
        prober.probe(data_folder / "svo2_zed2i/test.svo2", waiting=stop)
    assert prober._child is None


def test_what_is_not_a_number_does_not_reach_the_database():
    assert probing._plain({"a": float("nan"), "b": [1, float("inf")], "c": "x\x00y\udc80"}) == {
        "a": None,
        "b": [1, None],
        "c": "xy?",
    }


def test_probing_loads_no_decoder_into_this_process(tmp_path):
    import subprocess
    import sys

    code = (
        "import django, sys; django.setup(); from labeling.datasets import browsing, tasks, calibrations;"
        "from labeling.datasets.api import urls; from pipeline.recordings import kind_of;"
        "print([name for name in ('cv2', 'av', 'torch') if name in sys.modules])"
    )
    env = {"DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONPATH": ":".join(filter(None, sys.path))}
    env |= {"FOVEA_HOME": str(tmp_path), "PATH": shutil.os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
