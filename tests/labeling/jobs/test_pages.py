import pytest

from accounts.models import Role
from labeling.datasets.models import DatasetFile
from labeling.jobs import services
from labeling.jobs.models import ProcessingJob
from tests.factories import MembershipFactory, UserFactory
from tests.pipeline.stereo.stereo_networks import write_network

pytestmark = pytest.mark.django_db
CHOICES = {
    "stages_to_run": ["extraction"],
    "segmenter": "auto",
    "sam3_variant": "tiny",
    "confidence_threshold": "0.5",
    "batch_size": "4",
    "frame_skip": "1",
    "depth_method": "auto",
    "image_format": "png",
    "similarity_threshold": "4",
    "motion_threshold": "0.01",
}


@pytest.fixture
def browser(client, manager):
    client.force_login(manager)
    return client


@pytest.fixture
def job(manager, dataset, recording, hints):
    return services.create_job(
        user=manager,
        dataset=dataset,
        input_paths=[str(recording)],
        name="Gate",
        parameters={"stages_to_run": ["tracking"]},
    )


def test_the_pages_ask_to_sign_in_first(client, job):
    for path in ("/jobs/", "/jobs/create", f"/jobs/{job.pk}"):
        assert client.get(path).status_code == 302


def test_the_list_shows_jobs_and_filters_them(browser, job):
    assert "Gate" in browser.get("/jobs/").content.decode()
    assert "Gate" not in browser.get("/jobs/?status=running").content.decode()
    assert "Gate" in browser.get(f"/jobs/?dataset={job.dataset_id}&q=gat").content.decode()
    assert browser.get("/jobs/?dataset=nonsense&status=nonsense&page=nonsense").status_code == 200


def test_a_job_page_shows_stages_recordings_and_what_may_be_done(browser, job):
    page = browser.get(f"/jobs/{job.pk}").content.decode()
    for text in ("Extraction", "Segmentation", "Reconstruction", "Tracking", "test.svo2", "person", "geometric"):
        assert text in page
    assert f'action="/jobs/{job.pk}/start"' in page


def test_a_job_page_needs_the_same_few_queries_however_many_recordings_it_has(
    browser, manager, recording, django_assert_max_num_queries
):
    paths = [recording]
    for number in range(4):
        paths.append(recording.with_name(f"more{number}.svo2"))
        paths[-1].write_bytes(recording.read_bytes())
    job = services.create_job(
        user=manager, input_paths=[str(path) for path in paths], parameters={"stages_to_run": ["extraction"]}
    )
    with django_assert_max_num_queries(13):
        assert browser.get(f"/jobs/{job.pk}").status_code == 200


def test_a_button_starts_the_job_and_a_second_press_explains_itself(browser, job):
    browser.post(f"/jobs/{job.pk}/start")
    job.refresh_from_db()
    assert job.status == "running"
    page = browser.post(f"/jobs/{job.pk}/start", follow=True).content.decode()
    assert "Cannot start what is running." in page


def test_a_viewer_sees_the_job_without_buttons_and_cannot_move_it(client, job, dataset):
    user = UserFactory()
    MembershipFactory(dataset=dataset, user=user, role=Role.VIEWER)
    client.force_login(user)
    assert 'data-verb="start" hidden' in client.get(f"/jobs/{job.pk}").content.decode()
    assert client.post(f"/jobs/{job.pk}/start").status_code == 404
    assert client.post(f"/jobs/{job.pk}/delete").status_code == 404


def test_a_job_of_others_has_no_page(client, job):
    client.force_login(UserFactory())
    assert client.get(f"/jobs/{job.pk}").status_code == 404


def test_the_form_makes_a_job_and_starts_it(browser, recording, hints):
    response = browser.post("/jobs/create", {**CHOICES, "input_paths": str(recording), "start": "1"})
    job = ProcessingJob.objects.get()
    assert (response.status_code, response["Location"]) == (302, f"/jobs/{job.pk}")
    assert job.status == "running"
    assert job.config["write_point_clouds"] is False, "an empty checkbox is a choice"


def test_the_form_tells_which_stereo_network_is_here_or_what_is_missing(browser, settings):
    assert "there is no stereo_*.onnx in any folder of FOVEA_MODELS_DIR" in browser.get("/jobs/create").content.decode()
    settings.MODELS_FOLDERS[0].mkdir(exist_ok=True)
    write_network(settings.MODELS_FOLDERS[0] / "stereo_small.onnx")
    assert "The neural network here is stereo_small.onnx." in browser.get("/jobs/create").content.decode()


def test_the_form_says_at_the_field_what_is_wrong(browser, dataset, recording):
    data = {**CHOICES, "input_paths": "/etc/passwd", "frame_skip": "0", "dataset": dataset.pk}
    response = browser.post("/jobs/create", data)
    assert response.status_code == 400
    assert "0 is not a number from 1 to 1000." in response.content.decode()
    response = browser.post("/jobs/create", {**data, "frame_skip": "1"})
    assert "outside the folders this server may read" in response.content.decode()
    assert not ProcessingJob.objects.exists()


def test_the_form_offers_the_files_and_classes_of_the_dataset(browser, dataset):
    DatasetFile.objects.create(dataset=dataset, name="good.svo2", path="/a", status="ready", frame_count=12)
    DatasetFile.objects.create(dataset=dataset, name="bad.svo2", path="/b", status="broken", error="It is cut.")
    page = browser.get(f"/jobs/create?dataset={dataset.pk}").content.decode()
    for text in ("good.svo2", "bad.svo2", "It is cut.", "chair", "FOVEA_MODELS_DIR"):
        assert text in page


def test_renaming_on_an_old_version_is_refused(browser, job):
    browser.post(f"/jobs/{job.pk}/rename", {"name": "North gate", "version": "1"})
    page = browser.post(f"/jobs/{job.pk}/rename", {"name": "South gate", "version": "1"}, follow=True).content.decode()
    assert "It was changed by someone else meanwhile." in page
    job.refresh_from_db()
    assert job.name == "North gate"


def test_deleting_leads_back_to_the_list(browser, job):
    response = browser.post(f"/jobs/{job.pk}/delete", follow=True)
    assert response.redirect_chain == [("/jobs/", 302)]
    assert "was deleted" in response.content.decode()
