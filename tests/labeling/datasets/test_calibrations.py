import json
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import Role
from labeling.datasets.models import Calibration
from labeling.datasets.operations import start_operation
from tests.factories import CalibrationFactory, DatasetFileFactory, MembershipFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def conf(data_folder):
    return (data_folder / "svo2_zed2i/SN33234316.conf").read_bytes()


@pytest.fixture
def upload(client, dataset):
    def post(name, content, client=client, **fields):
        url = f"/api/v1/datasets/{dataset.pk}/calibrations"
        return client.post(url, {"file": SimpleUploadedFile(name, content), **fields}, format="multipart")

    return post


def test_an_uploaded_calibration_makes_its_cameras_recordings_metric(upload, dataset, conf, settings):
    mine = DatasetFileFactory(dataset=dataset, camera_serial="33234316")
    other = DatasetFileFactory(dataset=dataset, camera_serial="1")
    mono = DatasetFileFactory(dataset=dataset, camera_serial="33234316", stereo=False)
    answer = upload("SN33234316.conf", conf)
    body = answer.json()
    assert (answer.status_code, body["serial"], body["format"], body["file_count"]) == (
        201,
        "33234316",
        "zed_conf",
        1,
    )
    assert body["baseline_m"] == pytest.approx(0.12, abs=0.001)
    for file, metric in ((mine, True), (other, False), (mono, False)):
        file.refresh_from_db()
        assert file.metric is metric
    stored = Path(Calibration.objects.get().path)
    assert stored.read_bytes() == conf
    assert stored.is_relative_to(settings.CALIBRATIONS_ROOT)


def test_what_is_scanned_later_uses_the_uploaded_calibration(upload, owner, dataset, svo2, conf, finish):
    upload("SN33234316.conf", conf)
    finish(start_operation(user=owner, dataset=dataset, kind="scan", parameters={"path": str(svo2.parent)}))
    file = dataset.files.get()
    assert file.metric
    assert file.calibration == Calibration.objects.get()


def test_kitti_and_plain_json_are_understood(upload, data_folder):
    kitti = upload("calib.txt", (data_folder / "kitti_vo00/calib.txt").read_bytes())
    assert (kitti.status_code, kitti.json()["format"]) == (201, "kitti")
    assert kitti.json()["baseline_m"] == pytest.approx(0.537, abs=0.01)
    eye = {"width": 640, "height": 480, "fx": 500, "fy": 500, "cx": 320, "cy": 240}
    plain = {"left": eye, "right": eye, "translation": [-0.1, 0, 0]}
    answer = upload("mine.json", json.dumps(plain).encode(), serial="77")
    assert (answer.status_code, answer.json()["serial"], answer.json()["format"]) == (201, "77", "json")


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("SN1.conf", b"", "file"),
        ("SN1.conf", b"[LEFT_CAM_HD]\nfx=abc\n", "file"),
        ("SN1.conf", b"\xff\xfe\x00", "file"),
        ("calib.txt", b"P2: 1 2 3", "file"),
        ("c.json", b"{", "file"),
        ("c.json", b"[" * 100_000, "file"),
        ("c.json", b'{"left": {"width": 1e999}}', "file"),
        ("c.exe", b"x", "file"),
        ("../../../etc/cron.d/c.conf", b"x", "file"),
    ],
)
def test_a_file_that_is_no_calibration_gets_a_sentence(upload, name, content, field):
    answer = upload(name, content)
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert len(error["message"]) > 10
    assert not Calibration.objects.exists()


def test_a_file_too_large_is_refused(upload):
    assert upload("SN1.conf", b"x" * (1024 * 1024 + 1)).status_code == 400


def test_the_serial_must_be_that_of_the_file(upload, conf):
    answer = upload("SN33234316.conf", conf, serial="5")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "serial")
    assert upload("factory.conf", conf, serial="../5").status_code == 400
    assert upload("factory.conf", conf, serial="33234316").json()["serial"] == "33234316"


def test_a_calibration_is_given_to_a_file_by_hand(client, dataset):
    file = DatasetFileFactory(dataset=dataset)
    calibration = CalibrationFactory(dataset=dataset)
    url = f"/api/v1/datasets/{dataset.pk}/files/{file.pk}"
    answer = client.patch(url, {"calibration": str(calibration.pk)}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["metric"]) == (200, True)
    assert client.patch(url, {"calibration": None}, headers={"If-Match": '"1"'}).status_code == 412
    assert client.patch(url, {"calibration": None}).json()["metric"] is False
    foreign = CalibrationFactory()
    assert client.patch(url, {"calibration": str(foreign.pk)}).status_code == 400
    mono = DatasetFileFactory(dataset=dataset, stereo=False)
    refused = client.patch(f"/api/v1/datasets/{dataset.pk}/files/{mono.pk}", {"calibration": str(calibration.pk)})
    assert "one eye" in refused.json()["detail"]


def test_a_calibration_in_use_cannot_be_deleted(client, dataset):
    calibration = CalibrationFactory(dataset=dataset)
    url = f"/api/v1/datasets/{dataset.pk}/calibrations/{calibration.pk}"
    file = DatasetFileFactory(dataset=dataset, calibration=calibration)
    assert client.delete(url).status_code == 409
    file.delete()
    assert client.delete(url).status_code == 204


def test_only_managers_upload_calibrations(client_of, dataset, upload, conf):
    annotator = MembershipFactory(dataset=dataset, role=Role.ANNOTATOR).user
    assert upload("SN33234316.conf", conf, client=client_of(annotator)).status_code == 403
    assert upload("SN33234316.conf", conf, client=client_of(MembershipFactory().user)).status_code == 404
