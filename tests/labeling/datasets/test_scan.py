import os
import shutil
from pathlib import Path

import pytest

from core.models import LiveEvent, WorkStatus
from labeling.datasets.models import DatasetFile, Operation
from labeling.datasets.operations import control_operation, start_operation

SIZE_OF_REAL = 833_252


@pytest.fixture
def scan(owner, dataset, recordings, finish):
    def run(path=recordings):
        return finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(path)}))

    return run


def test_a_real_recording_is_found_and_described(scan, dataset, svo2, data_folder):
    shutil.copy(data_folder / "svo2_zed2i/SN33234316.conf", svo2.parent)
    operation = scan()
    assert (operation.status, operation.cursor, operation.total) == (WorkStatus.COMPLETED, 1, 1)
    file = dataset.files.get()
    assert (file.status, file.kind, file.frame_count, file.width, file.height) == ("ready", "svo2", 12, 1280, 720)
    assert (file.camera_serial, file.imu_count, file.stereo, file.metric) == ("33234316", 1433, True, True)
    assert file.size_bytes == SIZE_OF_REAL
    assert file.calibration.format == "zed_conf"
    assert Path(file.calibration.path).read_bytes() == (svo2.parent / "SN33234316.conf").read_bytes()


def test_a_recording_without_calibration_is_ready_but_not_metric(scan, dataset, svo2):
    scan()
    file = dataset.files.get()
    assert (file.status, file.metric, file.calibration) == ("ready", False, None)


@pytest.mark.parametrize(("percent", "least"), [(90, 10), (75, 9), (50, 6), (30, 2)])
def test_a_cut_recording_is_salvaged_up_to_its_cut(scan, dataset, svo2, percent, least):
    os.truncate(svo2, SIZE_OF_REAL * percent // 100)
    scan()
    file = dataset.files.get()
    assert file.status == "salvaged"
    assert file.frame_count >= least
    assert file.warnings
    assert all(isinstance(sentence, str) for sentence in file.warnings)


def test_each_kind_of_recording_is_found_once(scan, dataset, recordings, data_folder):
    for name in ("kitti_vo00", "euroc_micro", "svo2_like"):
        shutil.copytree(data_folder / name, recordings / name)
    shutil.copy(data_folder / "video_sam2/03_blocks.mp4", recordings / "blocks.mp4") if (
        data_folder / "video_sam2/03_blocks.mp4"
    ).exists() else None
    scan()
    kinds = {(file.kind, file.frame_count) for file in dataset.files.filter(status="ready")}
    assert {("stereo_images", 5), ("stereo_images", 20), ("svo2", 20)} <= kinds
    kitti = dataset.files.get(original_path__endswith="kitti_vo00")
    assert kitti.metric
    assert kitti.calibration.format == "kitti"
    assert kitti.calibration.baseline_m == pytest.approx(0.537, abs=0.01)
    assert dataset.files.filter(original_path__contains="euroc_micro").get().metric


def test_every_broken_file_gets_a_sentence_and_the_scan_completes(scan, dataset, recordings, data_folder):
    shutil.copytree(data_folder / "bad_files", recordings / "bad")
    shutil.copyfile(data_folder / "svo2_zed2i/test.svo2", recordings / "wrong_extension.mp4")
    (recordings / "folder.svo2").mkdir()
    operation = scan()
    assert operation.status == WorkStatus.COMPLETED
    assert not dataset.files.filter(status="found").exists()
    broken = dataset.files.filter(status="broken")
    names = set(broken.values_list("name", flat=True))
    assert {"empty.svo2", "head.svo2", "empty.mp4", "head16.mp4", "not_a_video.mp4"} <= names
    for file in broken:
        assert file.error.endswith((".", ")")), (file.name, file.error)
        assert "Traceback" not in file.error
        assert str(recordings) not in file.error
        assert file.frame_count is None
    for name in ("trunc.svo2", "flip.svo2"):
        file = dataset.files.get(name=name)
        assert file.error or file.frame_count > 0
    assert operation.result["counts"]["broken"] == broken.count()


def test_a_second_scan_looks_only_at_what_is_new_or_changed(scan, dataset, svo2):
    scan()
    version = dataset.files.get().version
    assert scan().total == 0
    assert dataset.files.get().version == version
    os.truncate(svo2, SIZE_OF_REAL // 2)
    shutil.copyfile(svo2, svo2.with_name("second.svo2"))
    assert scan().total == 2
    assert set(dataset.files.values_list("status", flat=True)) == {"salvaged"}


def test_a_recording_that_is_gone_is_marked_missing_and_found_again(scan, dataset, svo2):
    scan()
    svo2.rename(svo2.with_name(".away"))
    scan()
    assert dataset.files.get().status == "missing"
    svo2.with_name(".away").rename(svo2)
    scan()
    assert dataset.files.get().status == "ready"


def test_links_that_lead_out_hidden_files_and_loops_are_left_out(scan, dataset, svo2, tmp_path):
    root = svo2.parent
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copyfile(svo2, outside / "secret.svo2")
    (root / "link.svo2").symlink_to(outside / "secret.svo2")
    (root / "linked").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "dangling.svo2").symlink_to(root / "nothing")
    shutil.copyfile(svo2, root / ".hidden.svo2")
    operation = scan()
    assert [file.name for file in dataset.files.all()] == ["test.svo2"]
    assert set(operation.result["skipped"]) == {str(root / name) for name in ("link.svo2", "linked", "dangling.svo2")}


def test_a_scan_that_was_killed_goes_on_with_the_next_file(owner, dataset, svo2, finish, monkeypatch):
    from core import work
    from labeling.datasets import tasks

    for number in range(3):
        shutil.copyfile(svo2, svo2.with_name(f"more{number}.svo2"))
    operation = start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(svo2.parent)})
    looked_at = []
    real = tasks._scan

    def dies_at_the_third(lease, file, prober):
        looked_at.append(file.name)
        if len(looked_at) == 3:
            raise SystemExit
        return real(lease, file, prober)

    monkeypatch.setattr(tasks, "_scan", dies_at_the_third)
    with pytest.raises(SystemExit):
        work.advance("datasets.Operation", str(operation.pk))
    assert Operation.objects.get().cursor == 2
    assert finish(operation).status == WorkStatus.COMPLETED
    assert looked_at == ["more0.svo2", "more1.svo2", "more2.svo2", "more2.svo2", "test.svo2"]
    assert dataset.files.filter(status="ready").count() == 4


def test_cancelling_ends_the_scan_and_keeps_what_was_done(owner, dataset, svo2, finish, monkeypatch):
    from labeling.datasets import tasks

    shutil.copyfile(svo2, svo2.with_name("zweite.svo2"))
    operation = start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(svo2.parent)})
    real = tasks._scan

    def cancelled_meanwhile(lease, file, prober):
        if file.name == "zweite.svo2":
            control_operation(user=owner, operation=Operation.objects.get(), verb="cancel")
        return real(lease, file, prober)

    monkeypatch.setattr(tasks, "_scan", cancelled_meanwhile)
    assert finish(operation).status == WorkStatus.CANCELLED
    assert list(dataset.files.order_by("name").values_list("status", flat=True)) == ["ready", "found"]
    monkeypatch.undo()
    restarted = control_operation(user=owner, operation=Operation.objects.get(), verb="restart")
    assert finish(restarted).status == WorkStatus.COMPLETED
    assert not dataset.files.filter(status="found").exists()


def test_progress_is_told_live(scan, svo2):
    operation = scan()
    payloads = [event.payload for event in LiveEvent.objects.filter(topic=f"operation:{operation.pk}").order_by("seq")]
    assert {"progress", "log", "status"} <= {payload["type"] for payload in payloads}
    last = [payload for payload in payloads if payload["type"] == "progress"][-1]
    assert (last["cursor"], last["total"], last["progress"]) == (1, 1, 1)


def test_a_folder_with_images_beside_recordings_hides_none_of_them(scan, dataset, svo2, data_folder):
    shutil.copy(next((data_folder / "kitti_vo00/image_2").iterdir()), svo2.parent)
    scan()
    assert set(dataset.files.values_list("kind", flat=True)) == {"images", "svo2"}
    assert DatasetFile.objects.get(kind="svo2").frame_count == 12


def test_a_folder_that_was_swapped_for_a_link_after_it_was_checked_is_not_searched(
    client, dataset, recordings, finish, svo2, tmp_path
):
    folder = recordings / "drive"
    folder.mkdir()
    operation = client.post(f"/api/v1/datasets/{dataset.pk}/scan", {"path": str(folder)}).json()["id"]
    folder.rmdir()
    svo2.rename(tmp_path / "secret.svo2")
    folder.symlink_to(tmp_path)
    done = finish(operation)
    assert done.status == "failed"
    assert not dataset.files.exists()
