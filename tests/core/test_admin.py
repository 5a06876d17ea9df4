"""Django admin: every model is there, it is fast, and staff cannot raise their own rights in it."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import ApiKey, User
from core import audit
from core.admin import COUNTED, EstimatingPaginator
from core.models import AuditEvent
from labeling.datasets.models import Dataset, Membership
from tests.factories import ApiKeyFactory, DatasetFactory, LabelClassFactory, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db
OURS = [
    model
    for label in ("core", "accounts", "datasets", "jobs", "training")
    for model in apps.get_app_config(label).get_models()
]
CLOSED_TO_STAFF = [
    "accounts.user",
    "accounts.apikey",
    "datasets.membership",
    "auth.group",
    "django_q.schedule",
    "django_q.ormq",
    "admin.logentry",
    "core.idempotencykey",
]


def address(model: type[models.Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def staff() -> User:
    """Staff with every permission there is, but no superuser."""
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    return user


@pytest.fixture
def superuser() -> User:
    return UserFactory(is_staff=True, is_superuser=True)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_every_model_has_a_list_that_opens(client, superuser, model):
    client.force_login(superuser)
    assert client.get(address(model, "changelist")).status_code == 200
    assert client.get(address(model, "changelist"), {"q": "3f9b6c1e"}).status_code == 200


@pytest.mark.parametrize("label", CLOSED_TO_STAFF)
def test_staff_with_every_permission_cannot_even_look_at_rights(client, staff, label):
    model = apps.get_model(label)
    client.force_login(staff)
    assert client.get(address(model, "changelist")).status_code == 403
    assert client.post(address(model, "add"), {}).status_code == 403


def test_whatever_is_not_opened_on_purpose_is_closed_to_staff(client, staff):
    client.force_login(staff)
    opened = {
        model._meta.label_lower
        for model in admin.site._registry
        if client.get(address(model, "changelist")).status_code == 200
    }
    assert opened <= {model._meta.label_lower for model in OURS}
    assert opened.isdisjoint(CLOSED_TO_STAFF)


def test_nothing_staff_can_edit_holds_a_right_an_owner_or_a_path(rf, staff):
    request = rf.get("/")
    request.user = staff
    for model, model_admin in admin.site._registry.items():
        if not model_admin.has_change_permission(request):
            continue
        editable = set(model_admin.get_fields(request, model())) - set(
            model_admin.get_readonly_fields(request, model())
        )
        fields = [model._meta.get_field(name) for name in editable]
        assert not [field for field in fields if field.is_relation], model
        assert not {"path", "original_path", "source_path", "source_folder", "config", "version"} & editable, model


def test_staff_cannot_make_themselves_superuser_member_or_key_holder(client, staff):
    client.force_login(staff)
    dataset = DatasetFactory(owner=UserFactory())
    key = ApiKeyFactory()
    rights = {"email": staff.email, "is_superuser": "on", "is_staff": "on", "is_active": "on"}
    assert client.post(address(User, "change", staff.pk), rights).status_code == 403
    assert (
        client.post(address(Membership, "add"), {"dataset": dataset.pk, "user": staff.pk, "role": "owner"}).status_code
        == 403
    )
    assert client.post(address(ApiKey, "change", key.pk), {"user": staff.pk, "digest": "1" * 64}).status_code == 403
    assert (
        client.post(
            f"{address(User, 'changelist')}{staff.pk}/password/", {"password1": "x", "password2": "x"}
        ).status_code
        == 403
    )
    assert client.post(address(Group, "add"), {"name": "admins"}).status_code == 403
    staff.refresh_from_db()
    assert not staff.is_superuser
    assert not Membership.objects.filter(user=staff).exists()


def test_staff_without_permissions_sees_nothing(client):
    client.force_login(UserFactory(is_staff=True))
    assert client.get(address(Dataset, "changelist")).status_code == 403
    assert "/admin/datasets/" not in client.get(reverse("admin:index")).content.decode()


def test_people_who_are_not_staff_do_not_get_in(client):
    client.force_login(UserFactory())
    assert client.get(reverse("admin:index")).status_code == 302


def test_a_change_raises_the_version_and_leaves_a_trace(client, staff):
    client.force_login(staff)
    dataset = DatasetFactory(name="before", source_folder="/kept")
    response = client.post(
        address(Dataset, "change", dataset.pk),
        {"name": "after", "description": "", "source_folder": "/etc", "version": "9"},
    )
    assert response.status_code == 302
    dataset.refresh_from_db()
    assert (dataset.name, dataset.version, dataset.source_folder) == ("after", 2, "/kept")
    event = AuditEvent.objects.get(action="dataset.updated")
    assert (event.actor, event.dataset_id, event.before, event.after) == (
        staff,
        dataset.pk,
        {"name": "before"},
        {"name": "after"},
    )


def test_datasets_go_to_the_trash_and_back_but_are_never_deleted(client, staff):
    client.force_login(staff)
    dataset = DatasetFactory()
    assert client.post(address(Dataset, "delete", dataset.pk), {"post": "yes"}).status_code == 403
    for action, is_deleted in (("move_to_trash", True), ("restore", False)):
        client.post(address(Dataset, "changelist"), {"action": action, "_selected_action": [str(dataset.pk)]})
        dataset.refresh_from_db()
        assert (dataset.deleted_at is not None) is is_deleted
    client.post(
        address(Dataset, "changelist"),
        {"action": "delete_selected", "_selected_action": [str(dataset.pk)], "post": "yes"},
    )
    assert Dataset.objects.filter(pk=dataset.pk).exists()


@pytest.mark.parametrize("label", ["core.AuditEvent", "core.LiveEvent"])
def test_the_trail_cannot_be_changed_even_by_superusers(client, superuser, label):
    model = apps.get_model(label)
    client.force_login(superuser)
    event = audit.record(superuser, "tested", superuser)
    assert client.post(address(model, "add"), {}).status_code == 403
    if model is AuditEvent:
        assert client.get(address(model, "change", event.pk)).status_code == 200
        assert client.post(address(model, "change", event.pk), {"action": "forged"}).status_code == 403
        assert client.post(address(model, "delete", event.pk), {"post": "yes"}).status_code == 403
        assert AuditEvent.objects.get(pk=event.pk).action == "tested"


def test_no_page_shows_the_digest_of_a_key_and_superusers_can_revoke_it(client, superuser):
    client.force_login(superuser)
    key = ApiKeyFactory(digest="c0ffee" * 10 + "beef")
    assert key.digest not in client.get(address(ApiKey, "change", key.pk)).content.decode()
    client.post(address(ApiKey, "changelist"), {"action": "revoke", "_selected_action": [str(key.pk)]})
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_superusers_make_accounts_by_e_mail(client, superuser):
    client.force_login(superuser)
    assert client.get(address(User, "add")).status_code == 200
    form = {
        "email": "New@Example.org",
        "usable_password": "true",
        "password1": "a long passphrase",
        "password2": "a long passphrase",
    }
    assert client.post(address(User, "add"), form).status_code == 302
    assert User.objects.get(email="new@example.org").check_password("a long passphrase")


def test_lists_take_the_same_number_of_queries_however_long_they_are(client, superuser):
    client.force_login(superuser)
    for model, make in (
        (Membership, MembershipFactory),
        (Dataset, DatasetFactory),
        (apps.get_model("datasets.LabelClass"), LabelClassFactory),
    ):
        counts = []
        for _ in range(2):
            for _ in range(3):
                make()
            with CaptureQueriesContext(
                connection,
            ) as queries:
                client.get(address(model, "changelist"))
            counts.append(len(queries))
        assert counts[0] == counts[1], model


def test_a_filtered_list_is_counted_only_so_far(monkeypatch):
    monkeypatch.setattr("core.admin.COUNTED", 3)
    Dataset.objects.bulk_create(Dataset(name=f"d{number}") for number in range(5))
    assert COUNTED > 1000
    assert EstimatingPaginator(Dataset.objects.order_by("pk"), 50).count == 5
    assert EstimatingPaginator(Dataset.objects.filter(name__startswith="d").order_by("pk"), 50).count == 3


def test_rows_are_found_by_their_exact_id_by_what_they_belong_to_and_by_name(client, superuser):
    client.force_login(superuser)
    wanted, other = DatasetFactory(name="street corner"), DatasetFactory(name="car park")
    for term in (str(wanted.pk), "street", " corner "):
        page = client.get(address(Dataset, "changelist"), {"q": term}).content.decode()
        assert str(wanted.pk) in page
        assert str(other.pk) not in page
    membership, _ = MembershipFactory(dataset=wanted), MembershipFactory(dataset=other)
    page = client.get(address(Membership, "changelist"), {"q": membership.user.email}).content.decode()
    assert address(Membership, "change", membership.pk) in page
    assert "1 result" in page
    assert "0 results" in client.get(address(Membership, "changelist"), {"q": "nonsense"}).content.decode()


def test_pages_show_each_row_once_in_order():
    Dataset.objects.bulk_create(Dataset(name=f"d{number}") for number in range(7))
    pages = EstimatingPaginator(Dataset.objects.order_by("-name"), 3)
    assert [row.name for number in pages.page_range for row in pages.page(number)] == [
        f"d{n}" for n in range(6, -1, -1)
    ]
