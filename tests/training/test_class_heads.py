"""Class heads are trained from what people confirmed, survive a kill, and name what later jobs find."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Role
from core import work
from core.errors import ConflictError, FieldError
from core.models import AuditEvent
from labeling.jobs import class_heads as job_class_heads
from labeling.jobs.models import Detection
from labeling.jobs.services import create_job, plan_job
from pipeline.classification.head import ClassHead
from pipeline.errors import ClassHeadError, Stopped
from tests.factories import DatasetFactory, LabelClassFactory, MembershipFactory, UserFactory
from training import class_head_tasks, class_heads
from training.models import ModelVersion
from training.places import ModelPlace
from training.purging import purge
from training.selectors import lineage
from training.services import create_training_dataset

pytestmark = pytest.mark.django_db


def confirm(job, user, count=None):
    rows = job.detections.order_by("pk").values_list("pk", flat=True)[:count]
    Detection.objects.filter(pk__in=list(rows)).update(confirmed_at=timezone.now(), confirmed_by=user, source="human")


@pytest.fixture
def labelled(job, owner):
    confirm(job, owner)
    return job


def trained(owner, dataset, **given):
    row = class_heads.train_class_head(user=owner, dataset=dataset, **given)
    work.advance("training.ModelVersion", str(row.pk))
    row.refresh_from_db()
    assert row.status == "completed", row.error
    return row


def test_a_class_head_learns_the_classes_people_confirmed(owner, labelled):
    row = trained(owner, labelled.dataset)
    confirmed = labelled.detections.filter(confirmed_at__isnull=False)
    assert (row.number, row.name, row.label_count) == (1, "Class head 1", confirmed.count())
    assert row.active  # the first one of its dataset
    head = ClassHead.load(ModelPlace(row).checkpoint)
    assert head.class_ids == tuple(confirmed.order_by().values_list("label_class__number", flat=True).distinct())
    assert row.metrics == json.loads(json.dumps(head.meta))
    assert row.metrics["metrics"]["accuracy"] > 0.9  # cars, persons and cones of different colours
    assert row.baseline_model == head.feature_kind == "descriptor/1"
    content = ModelPlace(row).checkpoint.read_bytes()
    assert row.checkpoint_sha256 == hashlib.sha256(content).hexdigest()
    assert not ModelPlace(row).parts.exists()


def test_it_writes_down_which_label_of_whom_it_learned_from(owner, job):
    confirm(job, owner, 6)
    row = trained(owner, job.dataset)
    document = json.loads(ModelPlace(row).labels.read_text())
    assert [item["detection"] for item in document["labels"]] == list(
        job.detections.order_by("pk").values_list("pk", flat=True)[:6]
    )
    assert {item["confirmed_by"] for item in document["labels"]} == {owner.pk}


def test_a_training_that_was_killed_goes_on_and_leaves_the_same_bytes(owner, labelled, monkeypatch):
    undisturbed = trained(owner, labelled.dataset)
    monkeypatch.setattr(class_head_tasks, "FRAMES_AT_ONCE", 3)
    row = class_heads.train_class_head(user=owner, dataset=labelled.dataset)
    looked = []
    real = class_head_tasks._write_features

    def dies(part, labels, kind):
        if len(looked) == 2:
            raise Stopped  # as a kill: no commit, the lease is let go
        looked.append(part)
        real(part, labels, kind)

    monkeypatch.setattr(class_head_tasks, "_write_features", dies)
    work.advance("training.ModelVersion", str(row.pk))
    row.refresh_from_db()
    assert (row.status, row.trained_at) == ("running", None)
    assert 0 < row.progress < 1
    Detection.objects.filter(job=labelled).update(confirmed_at=None)  # what it learns from was written down
    monkeypatch.setattr(class_head_tasks, "_write_features", real)
    work.advance("training.ModelVersion", str(row.pk))
    row.refresh_from_db()
    assert (row.status, row.checkpoint_sha256) == ("completed", undisturbed.checkpoint_sha256)
    assert not row.active  # another one is


def test_only_one_is_active_and_people_say_which(owner, labelled):
    first, second = trained(owner, labelled.dataset), trained(owner, labelled.dataset, name="Better")
    assert (first.active, second.active, second.number, second.parent) == (True, False, 2, first)
    class_heads.activate(user=owner, row=second)
    first.refresh_from_db()
    assert (first.active, second.active) == (False, True)
    class_heads.delete_model(user=owner, row=second)
    assert not ModelVersion.objects.filter(active=True).exists()
    assert {"model.activated", "model.deactivated", "model.deleted"} <= set(
        AuditEvent.objects.values_list("action", flat=True)
    )


def test_without_labels_there_is_nothing_to_train(owner, job):
    with pytest.raises(ConflictError, match="Nobody has confirmed"):
        class_heads.train_class_head(user=owner, dataset=job.dataset)


def test_two_are_not_trained_at_once(owner, labelled):
    class_heads.train_class_head(user=owner, dataset=labelled.dataset)
    with pytest.raises(ConflictError, match="being trained already"):
        class_heads.train_class_head(user=owner, dataset=labelled.dataset)


def test_what_is_not_trained_cannot_be_active(owner, labelled):
    row = class_heads.train_class_head(user=owner, dataset=labelled.dataset)
    with pytest.raises(ConflictError, match="Only a model that was trained"):
        class_heads.activate(user=owner, row=row)


def test_labels_whose_files_are_gone_are_left_out_and_without_any_it_fails_with_a_reason(owner, labelled, settings):
    shutil.rmtree(settings.JOBS_ROOT / str(labelled.pk) / "walk_0")
    row = trained(owner, labelled.dataset)
    there = labelled.detections.filter(frame__sequence__name="walk_1").count()
    assert row.metrics["labels"] == there < row.label_count
    shutil.rmtree(settings.JOBS_ROOT / str(labelled.pk))
    row = class_heads.train_class_head(user=owner, dataset=labelled.dataset)
    work.advance("training.ModelVersion", str(row.pk))
    row.refresh_from_db()
    assert row.status == "failed"
    assert "nothing to learn from" in row.error


def test_after_enough_new_labels_training_again_is_offered(owner, job):
    confirm(job, owner, 1)
    assert class_heads.overview(job.dataset)["retrain"]
    row = trained(owner, job.dataset)
    overview = class_heads.overview(job.dataset)
    assert (overview["labels"], overview["new_labels"], overview["retrain"]) == (1, 0, False)
    assert overview["active"] == row
    confirm(job, owner, class_heads.RETRAIN_AFTER)
    overview = class_heads.overview(job.dataset)
    assert (overview["new_labels"], overview["retrain"]) == (class_heads.RETRAIN_AFTER, True)
    assert sum(item["labels"] for item in overview["classes"]) == class_heads.RETRAIN_AFTER


# --- what jobs get of it


def test_a_new_job_takes_the_active_head_and_says_which(owner, labelled, street, settings):
    row = trained(owner, labelled.dataset)
    shutil.copytree(street.recording.parent, settings.DATA_ROOTS[0], dirs_exist_ok=True)
    given = {
        "dataset": labelled.dataset,
        "input_paths": [str(settings.DATA_ROOTS[0] / "demo.svo2")],
        "parameters": {"segmenter": "geometric"},
    }
    labelled.dataset.label_classes.update(height_m=1.5, width_m=1.0, length_m=1.0)
    plan = plan_job(**given)
    assert plan.class_head == job_class_heads.Snapshot(str(row.pk), 1, "Class head 1", row.checkpoint_sha256)
    assert job_class_heads.verified_file(plan.class_head.to_json()) == ModelPlace(row).checkpoint
    assert plan_job(**given, use_class_head=False).class_head is None
    assert plan_job(**{**given, "parameters": {"stages_to_run": ["extraction"]}}).class_head is None
    ModelPlace(row).checkpoint.write_bytes(b"something else")
    with pytest.raises(FieldError, match="altered since it was trained"):
        plan_job(**given)


def _place(row):
    return row.frame.number, row.x, row.y, row.width, row.height


def test_what_people_taught_on_one_job_names_what_the_next_one_finds(owner, street, settings):
    shutil.copytree(street.recording.parent, settings.DATA_ROOTS[0], dirs_exist_ok=True)
    dataset = DatasetFactory(name="Corner", owner=owner)
    LabelClassFactory(dataset=dataset, number=1, name="person", height_m=1.75, width_m=0.6, length_m=0.6)
    LabelClassFactory(dataset=dataset, number=2, name="car", height_m=1.5, width_m=1.8, length_m=4.2)
    walker, wheels = (
        LabelClassFactory(dataset=dataset, number=n, name=name) for n, name in ((3, "walker"), (4, "wheels"))
    )
    given = {
        "dataset": dataset,
        "input_paths": [str(settings.DATA_ROOTS[0] / "demo.svo2")],
        "parameters": {"segmenter": "geometric", "stages_to_run": ["segmentation"], "confidence_threshold": 0.2},
    }
    jobs = []
    for _ in range(2):
        job = create_job(user=owner, start=True, **given)
        work.advance("jobs.ProcessingJob", str(job.pk))
        job.refresh_from_db()
        assert job.status == "completed", job.error
        jobs.append(job)
        if not job.class_head:  # people call them by names that no segmenter knows
            now = {"confirmed_at": timezone.now(), "confirmed_by": owner, "source": "human"}
            job.detections.filter(label_class__number=1).update(label_class=walker, **now)
            job.detections.filter(label_class__number=2).update(label_class=wheels, **now)
            trained(owner, dataset)
    taught, named = jobs
    assert taught.class_head is None
    assert named.class_head["sha256"] == ModelVersion.objects.get().checkpoint_sha256
    assert "“Class head 1” (version 1) names what is found" in named.log_lines.first().text
    said = {_place(row): row.label_class_id for row in taught.detections.select_related("frame")}
    again = {_place(row): row.label_class_id for row in named.detections.select_related("frame")}
    found = said.keys() & again.keys()
    assert len(found) >= 0.8 * len(said) > 5
    assert sum(said[place] == again[place] for place in found) >= 0.75 * len(found)
    assert named.frames.filter(uncertainty__isnull=True).count() == 0


def test_a_head_that_is_gone_or_altered_is_refused_with_a_sentence(owner, labelled):
    row = trained(owner, labelled.dataset)
    snapshot = class_heads.active_snapshot(labelled.dataset).to_json()
    content = ModelPlace(row).checkpoint.read_bytes()
    ModelPlace(row).checkpoint.write_bytes(content + b"x")
    with pytest.raises(ClassHeadError, match=r"“Class head 1”.*altered"):
        job_class_heads.verified_file(snapshot)
    ModelPlace(row).checkpoint.unlink()
    with pytest.raises(ClassHeadError, match="is gone"):
        job_class_heads.verified_file(snapshot)


def test_a_dataset_has_no_head_of_another(owner, labelled):
    trained(owner, labelled.dataset)
    assert job_class_heads.active_for(DatasetFactory(owner=owner)) is None
    assert job_class_heads.active_for(None) is None


def test_a_deleted_model_is_removed_for_good_with_its_files(owner, labelled):
    row = trained(owner, labelled.dataset)
    class_heads.delete_model(user=owner, row=row)
    assert purge(timezone.now())["models"] == 1
    assert not ModelPlace(row).root.exists()


def test_an_export_says_which_head_named_what_and_how_much_people_confirmed(owner, job):
    confirm(job, owner, 7)
    row = trained(owner, job.dataset)
    type(job).objects.filter(pk=job.pk).update(class_head=class_heads.active_snapshot(job.dataset).to_json())
    job.refresh_from_db()
    export = create_training_dataset(user=owner, job=job)
    work.advance("training.TrainingDataset", str(export.pk))
    export.refresh_from_db()
    pipeline = lineage(export)["pipeline"]
    assert pipeline["class_head"]["sha256"] == row.checkpoint_sha256
    assert pipeline["confirmed_labels"] == {"count": 7, "by_person": {owner.email: 7}}


# --- over REST


@pytest.fixture
def api(owner):
    client = APIClient()
    client.force_authenticate(owner)
    return client


def test_training_is_asked_for_once_and_followed(api, labelled):
    address = f"/api/v1/datasets/{labelled.dataset_id}/class-heads"
    head = {"Idempotency-Key": "train-1"}
    first, again = (api.post(address, {"name": "Mine"}, headers=head) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again["Idempotency-Replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert api.get(address).json()["training"]["name"] == "Mine"
    work.advance("training.ModelVersion", first.json()["id"])
    body = api.get(first["Location"]).json()
    assert (body["status"], body["active"], body["accuracy"]) == (
        "completed",
        True,
        body["metrics"]["metrics"]["accuracy"],
    )
    assert {row["name"] for row in body["metrics"]["metrics"]["per_class"]} >= {"Car", "Person"}
    assert api.get(address).json()["active"]["id"] == body["id"]


def test_a_model_is_renamed_with_its_etag_and_activated(owner, api, labelled):
    row = trained(owner, labelled.dataset)
    address = f"/api/v1/models/{row.pk}"
    etag = api.get(address)["ETag"]
    assert api.post(f"{address}/deactivate").json()["active"] is False
    assert api.patch(address, {"name": "Older"}, headers={"If-Match": etag}).status_code == 412
    assert api.patch(address, {"name": "Newer"}).json()["name"] == "Newer"
    assert api.post(f"{address}/activate").json()["active"] is True
    assert api.delete(address).status_code == 204
    assert api.get(address).status_code == 404


def test_a_list_of_models_costs_the_same_however_long(owner, api, job, django_assert_num_queries):
    for count in (1, 12):
        have = ModelVersion.objects.count()
        for number in range(have, count):
            ModelVersion.objects.create(dataset=job.dataset, number=number + 1, name=f"Head {number}")
        with django_assert_num_queries(2):
            assert api.get("/api/v1/models", {"ordering": "-number"}).json()["count"] == count


def test_an_annotator_looks_but_does_not_train(labelled):
    client = APIClient()
    client.force_authenticate(MembershipFactory(dataset=labelled.dataset, role=Role.ANNOTATOR).user)
    address = f"/api/v1/datasets/{labelled.dataset_id}/class-heads"
    assert client.get(address).json()["labels"] == labelled.detections.count()
    assert client.post(address).status_code == 403
    client.force_authenticate(UserFactory())
    assert client.get(address).status_code == 404


# --- pages


def test_the_pages_show_how_good_a_model_is_and_which_one_is_used(client, owner, labelled):
    client.force_login(owner)
    assert "Train a class head" in client.get(f"/models/?dataset={labelled.dataset_id}").content.decode()
    response = client.post(f"/models/train/datasets/{labelled.dataset_id}")
    assert response.status_code == 302
    waiting = client.get(response["Location"])
    assert "Waiting for a worker" in waiting.content.decode()
    row = ModelVersion.objects.get()
    work.advance("training.ModelVersion", str(row.pk))
    page = client.get(f"/models/{row.pk}").content.decode()
    measured = ModelVersion.objects.get().metrics["metrics"]
    assert f"{100 * measured['accuracy']:.1f}%" in page
    assert page.count('class="plot-bar"') == sum(1 for item in measured["reliability"] if item["count"])
    client.post(f"/models/{row.pk}/deactivate")
    assert "Use for new jobs" in client.get(f"/models/{row.pk}").content.decode()
    listed = client.get("/models/").content.decode()
    assert row.name in listed


def test_a_viewer_cannot_train_or_steer_from_the_pages(client, owner, labelled):
    row = trained(owner, labelled.dataset)
    client.force_login(MembershipFactory(dataset=labelled.dataset).user)
    assert client.get(f"/models/{row.pk}").status_code == 200
    assert client.post(f"/models/{row.pk}/deactivate").status_code == 403
    assert client.post(f"/models/train/datasets/{labelled.dataset_id}").status_code == 403


def test_a_reliability_plot_has_a_bar_for_each_filled_bin():
    from training.plots import SIDE, reliability_plot

    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 4, "confidence": 0.9, "accuracy": 0.75},
    ]
    plot = reliability_plot(bins)
    (bar,) = plot.bars
    assert (bar.x, bar.y, bar.height) == (SIDE / 2, SIDE / 4, 0.75 * SIDE)
    assert (bar.gap_y, bar.gap_height) == pytest.approx((0.1 * SIDE, 0.15 * SIDE))
    assert "75.0% right" in bar.told
    assert np.isclose(bar.share, 1)
