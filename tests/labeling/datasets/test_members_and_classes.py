import uuid

import pytest

from accounts.models import Role
from labeling.datasets.models import Membership
from labeling.jobs.models import Detection, Frame, ProcessingJob, Sequence
from tests.factories import LabelClassFactory, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def members(dataset):
    return f"/api/v1/datasets/{dataset.pk}/members"


@pytest.fixture
def classes(dataset):
    return f"/api/v1/datasets/{dataset.pk}/classes"


def test_members_are_added_changed_and_removed(client, members):
    person = UserFactory(email="ann@example.org")
    added = client.post(members, {"email": "Ann@example.org", "role": "annotator"})
    assert (added.status_code, added.json()["user"]["email"]) == (201, "ann@example.org")
    url = f"{members}/{added.json()['id']}"
    assert client.patch(url, {"role": "reviewer"}).json()["role"] == "reviewer"
    assert client.delete(url).status_code == 204
    assert not Membership.objects.filter(user=person).exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "nobody@example.org", "role": "viewer"}, 400),
        ({"email": "not an address", "role": "viewer"}, 400),
        ({"email": "ann@example.org", "role": "god"}, 400),
        ({"email": "ann@example.org"}, 400),
    ],
)
def test_a_member_that_cannot_be_added_is_refused(client, members, body, status):
    UserFactory(email="ann@example.org")
    assert client.post(members, body).status_code == status


def test_someone_who_is_a_member_already_is_not_added_again(client, members, dataset):
    member = MembershipFactory(dataset=dataset, role=Role.REVIEWER)
    assert client.post(members, {"email": member.user.email, "role": "viewer"}).status_code == 409
    member.refresh_from_db()
    assert member.role == Role.REVIEWER


def test_a_dataset_never_loses_its_last_owner(client, members, dataset, owner):
    own = dataset.memberships.get(user=owner)
    assert client.patch(f"{members}/{own.pk}", {"role": "manager"}).status_code == 409
    assert client.delete(f"{members}/{own.pk}").status_code == 409
    assert client.post(f"/api/v1/datasets/{dataset.pk}/leave").status_code == 409
    MembershipFactory(dataset=dataset, role=Role.OWNER)
    assert client.post(f"/api/v1/datasets/{dataset.pk}/leave").status_code == 204
    assert client.get(f"/api/v1/datasets/{dataset.pk}").status_code == 404


def test_a_manager_makes_and_unmakes_no_owners(client_of, members, dataset, owner):
    manager = MembershipFactory(dataset=dataset, role=Role.MANAGER)
    client = client_of(manager.user)
    newcomer = UserFactory()
    assert client.post(members, {"email": newcomer.email, "role": "owner"}).status_code == 403
    assert client.patch(f"{members}/{manager.pk}", {"role": "owner"}).status_code == 403
    owning = dataset.memberships.get(user=owner)
    assert client.patch(f"{members}/{owning.pk}", {"role": "viewer"}).status_code == 403
    assert client.delete(f"{members}/{owning.pk}").status_code == 403
    assert client.post(members, {"email": newcomer.email, "role": "manager"}).status_code == 201


def test_members_of_another_dataset_are_out_of_reach(client, members):
    other = MembershipFactory(role=Role.VIEWER)
    assert client.patch(f"{members}/{other.pk}", {"role": "manager"}).status_code == 404
    assert client.delete(f"{members}/{other.pk}").status_code == 404


def test_classes_get_the_next_number_and_a_free_colour(client, classes, dataset):
    LabelClassFactory(dataset=dataset, number=4, name="car", color="#0072b2")
    added = client.post(classes, {"name": "tree", "height_m": 8, "width_m": 4, "length_m": 4})
    assert (added.status_code, added.json()["number"], added.json()["color"]) == (201, 5, "#e69f00")


def test_classes_are_guarded_by_the_datasets_version(client, classes):
    etag = client.get(classes)["ETag"]
    first = client.post(classes, {"name": "tree"}, headers={"If-Match": etag})
    assert (first.status_code, first["ETag"]) == (201, '"2"')
    second = client.post(classes, {"name": "bush"}, headers={"If-Match": etag})
    assert (second.status_code, [item["name"] for item in second.json()["current"]["classes"]]) == (412, ["tree"])
    url = f"{classes}/{first.json()['id']}"
    assert client.patch(url, {"color": "#ABCDEF"}, headers={"If-Match": '"2"'}).json()["color"] == "#abcdef"
    assert client.delete(url, headers={"If-Match": '"2"'}).status_code == 412
    assert client.delete(url, headers={"If-Match": '"3"'}).status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "CAR"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "tree", "color": "green"}, "color"),
        ({"name": "tree", "shortcut": "c"}, "shortcut"),
        ({"name": "tree", "height_m": 0}, "height_m"),
        ({"name": "tree", "attributes": [1]}, "attributes"),
    ],
)
def test_a_class_that_clashes_or_makes_no_sense_names_the_field(client, classes, dataset, body, field):
    LabelClassFactory(dataset=dataset, name="car", shortcut="c")
    answer = client.post(classes, body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_a_class_in_use_cannot_be_deleted(client, classes, dataset):
    used = LabelClassFactory(dataset=dataset, name="car")
    job = ProcessingJob.objects.create(name="Job", dataset=dataset)
    sequence = Sequence.objects.create(job=job, position=0, name="0", source_path="/x")
    facts = {"number": 0, "source_index": 0, "timestamp_ns": 0, "width": 1, "height": 1, "motion_score": 0}
    frame = Frame.objects.create(id=uuid.uuid4(), job=job, sequence=sequence, **facts)
    box = {"instance": 0, "confidence": 1, "x": 0, "y": 0, "width": 1, "height": 1}
    Detection.objects.create(job=job, frame=frame, label_class=used, **box)
    answer = client.delete(f"{classes}/{used.pk}")
    assert (answer.status_code, "in use" in answer.json()["detail"]) == (409, True)


def test_a_viewer_sees_classes_and_members_but_changes_none(client_of, classes, members, dataset):
    client = client_of(MembershipFactory(dataset=dataset, role=Role.VIEWER).user)
    label_class = LabelClassFactory(dataset=dataset)
    assert client.get(classes).status_code == client.get(members).status_code == 200
    assert client.post(classes, {"name": "tree"}).status_code == 403
    assert client.patch(f"{classes}/{label_class.pk}", {"name": "x"}).status_code == 403
    assert client.delete(f"{classes}/{label_class.pk}").status_code == 403
    assert client.post(members, {"email": "a@example.org", "role": "viewer"}).status_code == 403
