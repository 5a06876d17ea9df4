import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from core import work
from core.models import WorkStatus
from labeling.datasets import copying, tasks
from labeling.datasets.operations import control_operation, start_operation
from pipeline.recordings import fingerprint


@pytest.fixture
def scanned(owner, dataset, svo2, finish):
    shutil.copyfile(svo2, svo2.with_name("twin.svo2"))
    other = svo2.with_name("other.svo2")
    other.write_bytes(svo2.read_bytes()[:600_000])
    finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(svo2.parent)}))
    return dataset


@pytest.fixture
def prepare(owner, scanned, finish):
    def run(mode="copy", rename="{name}"):
        parameters = {"mode": mode, "rename": rename}
        return finish(start_operation(user=owner, dataset=scanned, kind="prepare", parameters=parameters))

    return run


@pytest.fixture
def folder(settings, scanned) -> Path:
    return settings.DATASETS_ROOT / str(scanned.pk)


def test_copying_hashes_renames_and_marks_twins(prepare, scanned, svo2, folder):
    before = {path.name: path.read_bytes() for path in svo2.parent.iterdir()}
    operation = prepare(rename="{serial}_{number:03d}")
    assert operation.status == WorkStatus.COMPLETED
    assert operation.result["counts"] == {"prepared": 3, "duplicates": 1}
    kept = scanned.files.filter(duplicate_of=None).order_by("name")
    assert [file.name for file in kept] == ["33234316_001.svo2", "33234316_002.svo2"]
    for file in kept:
        assert Path(file.path).parent == folder
        assert file.sha256 == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
    twin = scanned.files.get(duplicate_of__isnull=False)
    assert twin.sha256 == twin.duplicate_of.sha256
    assert sorted(path.name for path in folder.iterdir()) == ["33234316_001.svo2", "33234316_002.svo2"]
    assert {path.name: path.read_bytes() for path in svo2.parent.iterdir()} == before


def test_linking_takes_no_room_and_leaves_the_originals(prepare, scanned, svo2, folder):
    prepare(mode="link")
    file = scanned.files.get(original_path=str(svo2))
    assert Path(file.path).parent == folder
    assert Path(file.path).stat().st_ino == svo2.stat().st_ino
    assert file.sha256 == hashlib.sha256(svo2.read_bytes()).hexdigest()


def test_registering_leaves_the_recordings_where_they_are(prepare, scanned, svo2, folder):
    prepare(mode="register")
    file = scanned.files.get(original_path=str(svo2))
    assert file.path == str(svo2)
    assert file.sha256
    assert file.prepared_at
    assert not folder.exists()


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_a_folder_of_images_is_brought_in_as_a_whole(owner, dataset, recordings, data_folder, finish, settings, mode):
    shutil.copytree(data_folder / "kitti_vo00", recordings / "drive")
    finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(recordings)}))
    finish(start_operation(user=owner, dataset=dataset, kind="prepare", parameters={"mode": mode}))
    file = dataset.files.get()
    assert file.path == str(settings.DATASETS_ROOT / str(dataset.pk) / "drive")
    assert file.sha256 == fingerprint(recordings / "drive") == fingerprint(Path(file.path))
    assert Path(file.path, "calib.txt").exists()


def test_the_same_name_twice_gets_a_number(owner, dataset, svo2, finish):
    other = svo2.parent / "elsewhere" / "test.svo2"
    other.parent.mkdir()
    other.write_bytes(svo2.read_bytes()[:600_000])
    finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(svo2.parent)}))
    finish(start_operation(user=owner, dataset=dataset, kind="prepare", parameters={"mode": "copy"}))
    assert sorted(dataset.files.values_list("name", flat=True)) == ["test-2.svo2", "test.svo2"]


def test_a_half_copied_file_is_never_a_dataset_file_and_the_next_run_completes_it(
    owner, scanned, folder, finish, monkeypatch
):
    monkeypatch.setattr(copying, "CHUNK", 100_000)
    operation = start_operation(user=owner, dataset=scanned, kind="prepare", parameters={"mode": "copy"})
    calls = []

    def dies(self):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), 9)

    # The copy is really killed, in a process of its own, in the middle of the first file.
    pid = os.fork()
    if pid == 0:
        copying.Beat.__call__ = dies
        source = Path(scanned.files.order_by("name").first().path)
        copying.bring(source, folder / source.name, "copy", copying.Beat(lambda: None), attempt=1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    left = list(folder.iterdir())
    assert [path.name for path in left] == [".other.svo2.1.part"]
    assert left[0].stat().st_size < 600_000
    assert finish(operation).status == WorkStatus.COMPLETED
    assert not list(folder.glob(".*"))
    for file in scanned.files.filter(duplicate_of=None):
        assert Path(file.path).read_bytes() == Path(file.original_path).read_bytes()


def test_a_run_killed_between_copy_and_commit_gives_the_same_result(owner, scanned, folder, finish, monkeypatch):
    operation = start_operation(user=owner, dataset=scanned, kind="prepare", parameters={"mode": "copy"})
    real = tasks._prepare

    def dies_after_the_copy(*args):
        real(*args)
        raise SystemExit

    monkeypatch.setattr(tasks, "_prepare", dies_after_the_copy)
    with pytest.raises(SystemExit):
        work.advance("datasets.Operation", str(operation.pk))
    assert (folder / "other.svo2").exists()
    assert not scanned.files.filter(prepared_at__isnull=False).exists()
    monkeypatch.undo()
    assert finish(operation).status == WorkStatus.COMPLETED
    assert sorted(path.name for path in folder.iterdir()) == ["other.svo2", "test.svo2"]


def test_pausing_in_the_middle_of_a_copy_leaves_no_part_behind(owner, scanned, folder, finish, monkeypatch):
    monkeypatch.setattr(copying, "CHUNK", 100_000)
    monkeypatch.setattr(copying, "BEAT_SECONDS", 0)
    operation = start_operation(user=owner, dataset=scanned, kind="prepare", parameters={"mode": "copy"})
    real = copying._copy_file

    def paused_meanwhile(*args):
        control_operation(user=owner, operation=scanned.operations.get(kind="prepare"), verb="pause")
        return real(*args)

    monkeypatch.setattr(copying, "_copy_file", paused_meanwhile)
    assert finish(operation).status == WorkStatus.PAUSED
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    control_operation(user=owner, operation=scanned.operations.get(kind="prepare"), verb="resume")
    assert finish(operation).status == WorkStatus.COMPLETED


def test_a_recording_still_being_written_is_not_taken(owner, scanned, svo2, finish, monkeypatch):
    monkeypatch.setattr(copying, "CHUNK", 100_000)
    grown = []

    def grows(self):
        if not grown:
            grown.append(svo2.parent / "other.svo2")
            with grown[0].open("ab") as stream:
                stream.write(b"more")

    monkeypatch.setattr(copying.Beat, "__call__", grows)
    operation = finish(start_operation(user=owner, dataset=scanned, kind="prepare", parameters={"mode": "copy"}))
    file = scanned.files.get(name="other.svo2")
    assert (operation.status, file.prepared_at) == (WorkStatus.COMPLETED, None)
    assert "still being written" in file.error


def test_a_recording_that_vanished_is_marked_missing_and_the_others_are_prepared(prepare, scanned, svo2):
    svo2.unlink()
    assert prepare().status == WorkStatus.COMPLETED
    assert scanned.files.get(original_path=str(svo2)).status == "missing"
    assert scanned.files.filter(prepared_at__isnull=False).count() == 2


def test_a_full_disk_fails_the_operation_with_a_sentence_and_a_restart_completes_it(
    prepare, scanned, owner, finish, monkeypatch, folder
):
    import errno

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "_copy_file", full)
    operation = prepare()
    assert (operation.status, operation.error) == (WorkStatus.FAILED, "The disk is full: other.svo2 was not copied.")
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    restarted = control_operation(user=owner, operation=operation, verb="restart")
    assert finish(restarted).status == WorkStatus.COMPLETED
    assert scanned.files.filter(prepared_at=None).count() == 0


def test_preparing_again_has_nothing_left_to_do(prepare, scanned, client):
    prepare()
    answer = client.post(f"/api/v1/datasets/{scanned.pk}/prepare", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_a_stereo_video_known_by_the_calibration_beside_it_stays_stereo_when_it_is_brought_in(
    owner, dataset, recordings, finish
):
    import cv2
    import numpy as np

    from pipeline.recordings import open_recording

    video = recordings / "cam.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 10, (640, 240))
    for shade in range(5):
        writer.write(np.full((240, 640, 3), 40 * shade, np.uint8))
    writer.release()
    eye = {"width": 320, "height": 240, "fx": 250, "fy": 250, "cx": 160, "cy": 120}
    calibration = {"left": eye, "right": eye, "translation": [-0.1, 0, 0], "rectified": True}
    (recordings / "cam.calibration.json").write_text(json.dumps(calibration))
    finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(recordings)}))
    assert dataset.files.get().kind == "stereo_video"
    parameters = {"mode": "copy", "rename": "{number:03d}"}
    finish(start_operation(user=owner, dataset=dataset, kind="prepare", parameters=parameters))
    file = dataset.files.get()
    assert file.name == "001_stereo.mp4"
    with open_recording(Path(file.path), calibration_file=Path(file.calibration.path)) as recording:
        assert (recording.metadata.kind, recording.metadata.width) == ("stereo_video", 320)
        assert recording.calibration.baseline == pytest.approx(0.1)
