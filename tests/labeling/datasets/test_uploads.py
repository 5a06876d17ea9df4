import base64
import errno
import fcntl
import hashlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Role
from accounts.services import create_api_key
from labeling.datasets import space, uploads
from labeling.datasets.models import DatasetFile, Operation, Upload
from tests.factories import MembershipFactory

TUS = {"Tus-Resumable": "1.0.0"}


def encoded(**values):
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


@pytest.fixture
def content(data_folder):
    return (data_folder / "svo2_zed2i/test.svo2").read_bytes()


@pytest.fixture
def create(client, dataset):
    def post(length, filename="drive.svo2", client=client, **metadata):
        headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": encoded(filename=filename, **metadata)}
        return client.post(f"/api/v1/datasets/{dataset.pk}/uploads", headers=headers)

    return post


@pytest.fixture
def patch(client):
    def send(url, offset, body, **headers):
        return client.patch(
            url,
            data=body,
            content_type="application/offset+octet-stream",
            headers=TUS | {"Upload-Offset": str(offset)} | headers,
        )

    return send


def offset_of(client, url):
    return int(client.head(url, headers=TUS)["Upload-Offset"])


def test_a_recording_sent_in_parts_becomes_a_file_of_the_dataset(client, dataset, create, patch, content, finish):
    answer = create(len(content), sha256=hashlib.sha256(content).hexdigest())
    assert (answer.status_code, answer["Tus-Resumable"]) == (201, "1.0.0")
    url = answer["Location"]
    for start in range(0, len(content), 300_000):
        assert offset_of(client, url) == start
        part = content[start : start + 300_000]
        answer = patch(url, start, part, **{"Upload-Checksum": f"sha256 {_b64(part)}"})
        assert (answer.status_code, answer["Upload-Offset"]) == (204, str(start + len(part)))
    file = dataset.files.get()
    assert Path(file.path).read_bytes() == content
    operation = finish(Operation.objects.get())
    file.refresh_from_db()
    assert (operation.status, file.status, file.frame_count) == ("completed", "ready", 12)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert file.prepared_at
    assert list(uploads.place_of(Upload.objects.get()).parent.iterdir()) == []


def _b64(part):
    return base64.b64encode(hashlib.sha256(part).digest()).decode()


def test_the_same_recording_uploaded_twice_is_marked(client, dataset, create, patch, content, finish):
    for _ in range(2):
        patch(create(len(content))["Location"], 0, content)
    for operation in Operation.objects.order_by("created_at"):
        finish(operation)
    first, second = dataset.files.order_by("prepared_at")
    assert second.duplicate_of == first


def test_what_the_server_speaks_is_told_by_options(client, dataset):
    answer = client.options(f"/api/v1/datasets/{dataset.pk}/uploads")
    assert answer.status_code == 204
    assert answer["Tus-Extension"] == "creation,checksum,expiration,termination"
    assert answer["Tus-Checksum-Algorithm"] == "sha256,sha1"
    assert int(answer["Tus-Max-Size"]) > 0


def test_another_protocol_version_is_refused(client, dataset):
    answer = client.post(f"/api/v1/datasets/{dataset.pk}/uploads", headers={"Tus-Resumable": "0.2.2"})
    assert (answer.status_code, answer["Tus-Version"]) == (412, "1.0.0")


def test_a_wrong_offset_is_a_conflict_and_changes_nothing(client, create, patch):
    url = create(10)["Location"]
    patch(url, 0, b"12345")
    for wrong in (0, 3, 7):
        answer = patch(url, wrong, b"x")
        assert answer.status_code == 409
        assert "stands at byte 5" in answer.json()["detail"]
    assert offset_of(client, url) == 5


def test_more_bytes_than_announced_are_refused(client, create, patch):
    url = create(10)["Location"]
    answer = patch(url, 0, b"x" * 11)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert offset_of(client, url) == 0


def test_a_file_larger_than_allowed_is_refused_at_once(create, settings):
    settings.UPLOAD_MAX_BYTES = 1000
    assert create(1001).status_code == 413
    assert create(1000).status_code == 201


def test_a_file_larger_than_the_disk_is_refused_at_once(create, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": space.RESERVE + 99})())
    answer = create(100)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert "drive.svo2" in answer.json()["detail"]


def test_a_damaged_part_is_refused_and_can_be_sent_again(client, create, patch):
    url = create(10)["Location"]
    answer = patch(url, 0, b"12345", **{"Upload-Checksum": f"sha256 {_b64(b'other')}"})
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    assert offset_of(client, url) == 0
    assert patch(url, 0, b"12345", **{"Upload-Checksum": f"sha256 {_b64(b'12345')}"}).status_code == 204
    sha1 = base64.b64encode(hashlib.sha1(b"67").digest()).decode()  # noqa: S324
    assert patch(url, 5, b"67", **{"Upload-Checksum": f"sha1 {sha1}"}).status_code == 204
    assert patch(url, 7, b"8", **{"Upload-Checksum": "md5 AAAA"}).status_code == 400


def test_a_whole_that_is_not_the_one_promised_is_thrown_away(client, dataset, create, patch):
    url = create(5, sha256=hashlib.sha256(b"right").hexdigest())["Location"]
    answer = patch(url, 0, b"wrong")
    assert answer.status_code == 460
    assert answer.json()["detail"].startswith("drive.svo2 arrived damaged")
    assert client.head(url, headers=TUS).status_code == 404
    assert not dataset.files.exists()


def test_two_appends_at_once_do_not_mix(create, patch):
    url = create(10)["Location"]
    with uploads.place_of(Upload.objects.get()).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = patch(url, 0, b"12345")
    assert (answer.status_code, answer.json()["code"]) == (423, "upload_locked")
    assert patch(url, 0, b"12345").status_code == 204


def test_bytes_of_a_broken_off_append_are_cut(client, create, patch):
    url = create(6)["Location"]
    patch(url, 0, b"123")
    with uploads.place_of(Upload.objects.get()).open("ab") as file:
        file.write(b"garbage that was never told of")
    assert offset_of(client, url) == 3
    patch(url, 3, b"456")
    assert Path(DatasetFile.objects.get().path).read_bytes() == b"123456"


def test_lost_bytes_are_asked_for_again_instead_of_being_zeros(client, create, patch):
    url = create(6)["Location"]
    patch(url, 0, b"1234")
    os.truncate(uploads.place_of(Upload.objects.get()), 2)
    assert patch(url, 4, b"56").status_code == 409
    assert offset_of(client, url) == 2
    patch(url, 2, b"3456")
    assert Path(DatasetFile.objects.get().path).read_bytes() == b"123456"


@pytest.mark.parametrize("moved", [False, True])
def test_an_upload_whose_end_was_never_told_of_is_settled_by_the_next_look(client, create, patch, monkeypatch, moved):
    url = create(4)["Location"]

    def killed(**kwargs):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(uploads, "start_operation", killed)
        with pytest.raises(SystemExit):
            patch(url, 0, b"1234")
    upload = Upload.objects.get()
    assert (upload.offset, upload.finished_at) == (4, None)
    assert not DatasetFile.objects.exists()
    if moved:
        target = uploads.settings.DATASETS_ROOT / str(upload.dataset_id) / "uploads" / str(upload.pk) / "drive.svo2"
        target.parent.mkdir(parents=True)
        uploads.place_of(upload).replace(target)
    assert offset_of(client, url) == 4
    assert Path(DatasetFile.objects.get().path).read_bytes() == b"1234"
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("filename", ["../../evil.svo2", "/etc/evil.svo2", "..\\evil.svo2", "evil\x00.svo2"])
def test_a_hostile_name_stays_inside_the_datasets_folder(dataset, create, patch, settings, filename):
    patch(create(4, filename=filename)["Location"], 0, b"1234")
    path = Path(DatasetFile.objects.get().path)
    assert path.resolve().is_relative_to(settings.DATASETS_ROOT / str(dataset.pk))
    assert path.name in ("evil.svo2", "evil_.svo2")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Upload-Length": "10"}, "Upload-Metadata"),
        ({"Upload-Length": "-1", "Upload-Metadata": encoded(filename="a.svo2")}, "Upload-Length"),
        ({"Upload-Length": "٣", "Upload-Metadata": encoded(filename="a.svo2")}, "Upload-Length"),
        ({"Upload-Length": "0", "Upload-Metadata": encoded(filename="a.svo2")}, "Upload-Length"),
        ({"Upload-Defer-Length": "1", "Upload-Metadata": encoded(filename="a.svo2")}, "Upload-Length"),
        ({"Upload-Length": "9", "Upload-Metadata": "filename !!!"}, "Upload-Metadata"),
        ({"Upload-Length": "9", "Upload-Metadata": encoded(filename="a.exe")}, "filename"),
        ({"Upload-Length": "9", "Upload-Metadata": encoded(filename="a.svo2", sha256="xyz")}, "sha256"),
    ],
)
def test_a_wrong_announcement_names_the_field(client, dataset, headers, field):
    headers = {key: value.encode().decode("latin-1") for key, value in headers.items()}
    answer = client.post(f"/api/v1/datasets/{dataset.pk}/uploads", headers=TUS | headers)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_cancelling_forgets_the_bytes(client, create, patch):
    url = create(10)["Location"]
    patch(url, 0, b"12345")
    place = uploads.place_of(Upload.objects.get())
    assert client.delete(url, headers=TUS).status_code == 204
    assert not place.exists()
    assert client.head(url, headers=TUS).status_code == 404


def test_an_upload_nobody_went_on_with_expires(client, create, patch):
    url = create(10)["Location"]
    patch(url, 0, b"12345")
    place = uploads.place_of(Upload.objects.get())
    Upload.objects.update(updated_at=timezone.now() - timedelta(days=8))
    create(10)
    assert client.head(url, headers=TUS).status_code == 404
    assert not place.exists()


def test_unfinished_uploads_are_listed_to_be_resumed(client, dataset, create, patch):
    url = create(10)["Location"]
    patch(url, 0, b"12345")
    patch(create(2)["Location"], 0, b"12")
    listed = client.get(f"/api/v1/datasets/{dataset.pk}/uploads").json()
    assert [(item["url"], item["offset"], item["length"]) for item in listed] == [(url, 5, 10)]


def test_others_cannot_touch_an_upload(dataset, create, client_of):
    url = create(10)["Location"]
    manager = MembershipFactory(dataset=dataset, role=Role.MANAGER).user
    annotator = MembershipFactory(dataset=dataset, role=Role.ANNOTATOR).user
    stranger = MembershipFactory().user
    for user, status in ((manager, 404), (annotator, 403), (stranger, 404)):
        assert client_of(user).head(url, headers=TUS).status_code == status
        assert client_of(user).delete(url, headers=TUS).status_code == status
    assert create(5, client=client_of(annotator)).status_code == 403
    assert create(5, client=client_of(stranger)).status_code == 404


def test_a_read_only_key_does_not_even_finish_an_upload_by_looking_at_it(create, content, owner):
    url = create(len(content))["Location"]
    upload = Upload.objects.get()
    uploads.place_of(upload).write_bytes(content)
    Upload.objects.update(offset=len(content))  # the server died before it could finish
    for access, files in (("read", 0), ("write", 1)):
        _, text = create_api_key(user=owner, name=access, access=access)
        looked = APIClient().head(url, headers=TUS | {"Authorization": f"Bearer {text}"})
        assert (looked.status_code, looked["Upload-Offset"]) == (200, str(len(content)))
        assert DatasetFile.objects.count() == files


def test_a_read_only_key_uploads_nothing(create, owner):
    url = create(10)["Location"]
    _, text = create_api_key(user=owner, name="read", access="read")
    refused = APIClient().patch(
        url,
        data=b"0123456789",
        content_type="application/offset+octet-stream",
        headers=TUS | {"Upload-Offset": "0", "Authorization": f"Bearer {text}"},
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "read_only_key")
    assert Upload.objects.get().offset == 0


def test_a_disk_that_fills_up_is_told_in_words_and_keeps_what_was_there(create, patch, content, monkeypatch):
    url = create(len(content))["Location"]
    assert patch(url, 0, content[:1000]).status_code == 204

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(uploads.os, "fsync", full)
        response = patch(url, 1000, content[1000:2000])
    assert (response.status_code, response.json()["code"]) == (507, "disk_full")
    assert uploads.place_of(Upload.objects.get()).stat().st_size == 1000
    assert patch(url, 1000, content[1000:]).status_code == 204
