import os
import shutil
from urllib.parse import quote

import pytest

from core.api.parsing import complaint_about
from labeling.datasets import browsing

pytestmark = pytest.mark.django_db
HOSTILE = [
    "..",
    "../..",
    "recordings/../../../etc/passwd",
    "/etc/passwd",
    "/proc/self/environ",
    "....//....//etc",
    "C:\\Windows\\win.ini",
    "\\\\server\\share",
    "~root",
    "a\x00b",
    "x" * 300,
    "x/" * 3000,
    "out",
    "out/secret.svo2",
]


@pytest.fixture
def outside(recordings, tmp_path, data_folder):
    """A folder outside the roots, with a link to it inside."""
    shutil.copyfile(data_folder / "svo2_like/euroc_h264.svo2", tmp_path / "secret.svo2")
    (recordings / "out").symlink_to(tmp_path)
    return tmp_path


def test_browsing_starts_at_the_roots_and_shows_folders_and_recordings(client, svo2, recordings):
    (recordings / "2026").mkdir()
    (recordings / "notes.txt").write_text("not a recording")
    (recordings / ".hidden.svo2").touch()
    roots = client.get("/api/v1/files/browse").json()
    assert [(entry["path"], entry["type"]) for entry in roots["entries"]] == [(str(recordings), "folder")]
    assert roots["parent"] is None
    body = client.get("/api/v1/files/browse", {"path": str(recordings)}).json()
    shown = [(entry["name"], entry["type"], entry["kind"]) for entry in body["entries"]]
    assert shown == [("2026", "folder", ""), ("test.svo2", "recording", "svo2")]
    assert body["entries"][1]["size_bytes"] == 833_252
    assert body["parent"] == ""


def test_a_folder_of_stereo_images_is_shown_as_one_recording(client, recordings, data_folder):
    shutil.copytree(data_folder / "kitti_vo00", recordings / "drive")
    body = client.get("/api/v1/files/browse", {"path": str(recordings)}).json()
    assert [(entry["name"], entry["type"], entry["kind"]) for entry in body["entries"]] == [
        ("drive", "recording", "stereo_images")
    ]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_is_refused_everywhere_and_tells_nothing(client, outside, path):
    answers = [
        client.get("/api/v1/files/browse", {"path": path}),
        client.get("/api/v1/files/frame-count", {"path": path}),
        client.get(f"/api/v1/files/metadata/{quote(path)}"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 404), answer.content[:200]
        assert b"root:" not in answer.content
        assert "metadata" not in answer.json()
    answer = client.post("/api/v1/files/validate", {"paths": [path]})
    if complaint_about(path) or len(path) > 4000:
        assert answer.status_code == 400
    else:
        (result,) = answer.json()["results"]
        assert (result["ok"], result["code"]) == (False, "invalid_path")


def test_what_lies_outside_is_refused_in_the_same_words_whether_it_exists_or_not(client):
    there = client.get("/api/v1/files/frame-count", {"path": "/etc/passwd"}).json()["detail"]
    missing = client.get("/api/v1/files/frame-count", {"path": "/etc/nothing"}).json()["detail"]
    assert there.replace("passwd", "nothing") == missing


def test_the_files_of_other_datasets_cannot_be_read_by_path(client, settings, data_folder):
    path = settings.DATASETS_ROOT / "other" / "secret.svo2"
    path.parent.mkdir(parents=True)
    shutil.copyfile(data_folder / "svo2_like/euroc_h264.svo2", path)
    assert client.get("/api/v1/files/frame-count", {"path": str(path)}).status_code == 400
    assert client.get("/api/v1/files/browse", {"path": str(path.parent)}).status_code == 400


def test_frames_are_counted(client, svo2):
    answer = client.get("/api/v1/files/frame-count", {"path": str(svo2)})
    assert answer.json() == {"path": str(svo2), "frame_count": 12, "truncated": False}
    os.truncate(svo2, 833_252 // 2)
    cut = client.get("/api/v1/files/frame-count", {"path": str(svo2)}).json()
    assert cut["truncated"]
    assert 6 <= cut["frame_count"] < 12


@pytest.mark.parametrize("as_given", [str, lambda path: str(path).lstrip("/"), lambda path: path.name])
def test_metadata_comes_with_the_calibration(client, svo2, data_folder, as_given):
    shutil.copy(data_folder / "svo2_zed2i/SN33234316.conf", svo2.parent)
    body = client.get(f"/api/v1/files/metadata/{quote(as_given(svo2))}").json()
    assert (body["path"], body["kind"], body["width"], body["height"]) == (str(svo2), "svo2", 1280, 720)
    assert (body["camera_serial"], body["imu_count"], body["metric"]) == ("33234316", 1433, True)
    assert body["calibration"]["left"]["fx"] > 500


def test_validation_answers_for_each_file(client, svo2, recordings, data_folder):
    for name in ("empty.svo2", "not_a_video.mp4", "trunc.svo2"):
        shutil.copyfile(data_folder / "bad_files/made_here" / name, recordings / name)
    paths = [str(svo2), str(recordings / "empty.svo2"), "not_a_video.mp4", "trunc.svo2", "nothing.svo2"]
    results = client.post("/api/v1/files/validate", {"paths": paths}).json()["results"]
    assert [result["path"] for result in results] == paths
    assert [result["ok"] for result in results] == [True, False, False, True, False]
    assert results[0]["frame_count"] == 12
    assert "empty.svo2" in results[1]["error"]
    assert results[3]["truncated"]
    assert results[3]["warnings"]
    assert "does not exist" in results[4]["error"]


def test_a_broken_file_is_a_clear_error(client, recordings, data_folder):
    shutil.copyfile(data_folder / "bad_files/made_here/head.svo2", recordings / "head.svo2")
    answer = client.get("/api/v1/files/frame-count", {"path": "head.svo2"})
    assert (answer.status_code, answer.json()["code"]) == (422, "recording_unreadable")
    assert "head.svo2" in answer.json()["detail"]


def test_a_file_is_probed_once_until_it_changes(client, svo2, monkeypatch):
    probed = []
    real = browsing.Prober.probe
    monkeypatch.setattr(browsing.Prober, "probe", lambda self, path: probed.append(path) or real(self, path))
    for _ in range(2):
        client.get("/api/v1/files/frame-count", {"path": str(svo2)})
    assert len(probed) == 1
    os.utime(svo2, (1, 1))
    client.get("/api/v1/files/frame-count", {"path": str(svo2)})
    assert len(probed) == 2


def test_a_folder_with_very_many_entries_is_cut_short(client, recordings):
    for number in range(2050):
        (recordings / f"{number:05d}.svo2").touch()
    body = client.get("/api/v1/files/browse", {"path": str(recordings)}).json()
    assert len(body["entries"]) == 2000
    assert body["truncated"]
