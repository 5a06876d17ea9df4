"""What every endpoint inherits: scopes and roles, ETags, Idempotency-Keys, pages, cursors, ordering."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import connection, connections
from django.utils import timezone
from rest_framework import mixins, serializers
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from accounts.models import Role
from core.api.etag import ETagMixin, save_versioned
from core.api.idempotency import ABANDONED, KEPT, idempotent, idempotent_after
from core.api.pagination import CursorPagination
from core.api.views import ANYONE, ApiViewSet
from core.errors import ConflictError, StaleError
from core.models import IdempotencyKey
from labeling.datasets.models import Dataset
from tests.factories import DatasetFactory, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    class Meta:
        model = Dataset
        fields = ["id", "name", "version"]


class DatasetViews(ETagMixin, mixins.RetrieveModelMixin, mixins.ListModelMixin, ApiViewSet):
    queryset = Dataset.objects.all()
    serializer_class = DatasetSerializer
    ordering_fields = ["name", "created_at"]
    role_required = {
        "partial_update": Role.MANAGER,
        "create": ANYONE,
        "slow": ANYONE,
        "slower": ANYONE,
        "touch": Role.ANNOTATOR,
    }
    if_match_required = {"touch"}

    def partial_update(self, request: Any, pk: str) -> Response:
        row = self.get_object()
        save_versioned(row, self.expected_version(row), name=request.data["name"])
        return Response(self.get_serializer(row).data)

    def touch(self, request: Any, pk: str) -> Response:
        self.expected_version(self.get_object())
        return Response(status=204)

    def forgotten(self, request: Any, pk: str) -> Response:
        return Response(self.get_object().name)

    def _looked_into(self, request: Any) -> bool:
        return connection.in_atomic_block

    @idempotent_after(_looked_into)
    def slow(self, request: Any, prepared: bool) -> Response:
        return Response({"prepared_inside": prepared, "inside": connection.in_atomic_block})

    @idempotent
    def slower(self, request: Any) -> Response:
        """Takes so long that a repetition takes over."""
        DatasetFactory(name="twice")
        IdempotencyKey.objects.all().delete()
        return Response()

    @idempotent
    def create(self, request: Any) -> Response:
        if request.data["name"] == "refused":
            raise ConflictError("Refused.")
        row = DatasetFactory(name=request.data["name"])
        return Response({"id": row.pk, "at": row.created_at}, status=202, headers={"Location": f"/d/{row.pk}"})


class CursorViews(DatasetViews):
    pagination_class = CursorPagination
    cursor_ordering = ("created_at", "id")


def call(
    user: Any,
    method: str,
    action: str,
    data: Any = None,
    *,
    pk: Any = None,
    path: str = "/",
    views: Any = DatasetViews,
    **headers: str,
) -> Response:
    body = {} if method == "get" else {"format": "json"}
    request = getattr(APIRequestFactory(), method)(path, data, headers=headers, **body)
    force_authenticate(request, user)
    return views.as_view({method: action})(request, **({"pk": str(pk)} if pk else {})).render()


@pytest.fixture
def owner():
    return UserFactory()


@pytest.fixture
def dataset(owner):
    return DatasetFactory(owner=owner)


def test_what_is_not_yours_does_not_exist(dataset):
    assert call(UserFactory(), "get", "retrieve", pk=dataset.pk).status_code == 404
    assert call(UserFactory(), "get", "retrieve", pk="no-id").status_code == 404
    assert call(UserFactory(), "patch", "partial_update", {"name": "mine"}, pk=dataset.pk).status_code == 404


def test_a_member_whose_role_is_too_low_is_refused_by_name(dataset):
    viewer = MembershipFactory(dataset=dataset, role=Role.VIEWER).user
    assert call(viewer, "get", "retrieve", pk=dataset.pk).status_code == 200
    response = call(viewer, "patch", "partial_update", {"name": "mine"}, pk=dataset.pk)
    assert (response.status_code, response.data["code"]) == (403, "forbidden")
    assert "manager" in response.data["detail"]


def test_a_write_whose_role_was_forgotten_is_not_let_through(dataset, owner):
    with pytest.raises(ImproperlyConfigured, match="forgotten"):
        call(owner, "post", "forgotten", pk=dataset.pk)


def test_single_rows_carry_an_etag_that_changes_with_each_write(dataset, owner):
    first = call(owner, "get", "retrieve", pk=dataset.pk)["ETag"]
    changed = call(owner, "patch", "partial_update", {"name": "new"}, pk=dataset.pk, **{"If-Match": first})
    assert (first, changed["ETag"], changed.data["version"]) == ('"1"', '"2"', 2)
    assert call(owner, "get", "retrieve", pk=dataset.pk)["ETag"] == '"2"'


def test_a_stale_write_changes_nothing_and_shows_what_is_there_now(dataset, owner):
    call(owner, "patch", "partial_update", {"name": "theirs"}, pk=dataset.pk)
    response = call(owner, "patch", "partial_update", {"name": "mine"}, pk=dataset.pk, **{"If-Match": '"1"'})
    assert (response.status_code, response.data["code"], response["ETag"]) == (412, "stale", '"2"')
    assert response.data["current"]["name"] == "theirs"
    assert Dataset.objects.get(pk=dataset.pk).name == "theirs"


@pytest.mark.parametrize(("header", "status"), [('"1"', 204), ('"9", "1"', 204), ("*", 204), ('"2"', 412), ("x", 412)])
def test_if_match_takes_one_tag_several_or_any(dataset, owner, header, status):
    assert call(owner, "post", "touch", pk=dataset.pk, **{"If-Match": header}).status_code == status


def test_where_if_match_is_demanded_its_absence_is_428(dataset, owner):
    response = call(owner, "post", "touch", pk=dataset.pk)
    assert (response.status_code, response.data["code"]) == (428, "precondition_required")


def test_of_two_writes_to_the_same_version_one_wins(dataset):
    mine, theirs = Dataset.objects.get(pk=dataset.pk), Dataset.objects.get(pk=dataset.pk)
    save_versioned(theirs, 1, name="theirs")
    with pytest.raises(StaleError):
        save_versioned(mine, 1, name="mine")
    assert Dataset.objects.get(pk=dataset.pk).name == "theirs"
    assert (theirs.version, theirs.updated_at > dataset.updated_at) == (2, True)


def test_a_versioned_write_is_validated_before_it_is_written(dataset):
    with pytest.raises(ValidationError, match="200 characters"):
        save_versioned(dataset, 1, name="x" * 201)
    assert Dataset.objects.get(pk=dataset.pk).version == 1


def test_a_repeated_post_is_done_once_and_answered_twice(owner):
    first = call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    again = call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, Dataset.objects.count()) == (202, 202, 1)
    assert (json.loads(again.content), again["Location"]) == (json.loads(first.content), first["Location"])
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first


def test_a_key_used_for_another_body_is_refused(owner):
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    response = call(owner, "post", "create", {"name": "two"}, **{"Idempotency-Key": "k"})
    assert (response.status_code, response.data["code"]) == (422, "idempotency_key_reused")
    assert call(owner, "post", "create", {"name": "one"}, path="/?x", **{"Idempotency-Key": "k"}).status_code == 422


def test_keys_of_two_people_do_not_meet(owner):
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    assert call(UserFactory(), "post", "create", {"name": "two"}, **{"Idempotency-Key": "k"}).status_code == 202
    assert Dataset.objects.count() == 2


def test_while_the_first_is_at_work_its_repetition_is_told_to_come_back(owner):
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    IdempotencyKey.objects.update(status_code=None)
    response = call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    assert (response.status_code, response.data["code"], response["Retry-After"]) == (409, "in_progress", "1")


def test_a_claim_whose_request_died_is_taken_over(owner):
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    IdempotencyKey.objects.update(status_code=None, created_at=timezone.now() - ABANDONED * 2)
    assert call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"}).status_code == 202


def test_keys_are_forgotten_after_a_day(owner):
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"})
    call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": "another"})
    IdempotencyKey.objects.update(created_at=timezone.now() - KEPT * 1.01)
    assert call(owner, "post", "create", {"name": "two"}, **{"Idempotency-Key": "k"}).status_code == 202
    assert [row.key for row in IdempotencyKey.objects.all()] == ["k"]


def test_what_failed_may_be_tried_again_with_the_same_key(owner):
    assert call(owner, "post", "create", {"name": "refused"}, **{"Idempotency-Key": "k"}).status_code == 409
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_what_takes_long_to_check_is_checked_before_the_transaction(headers):
    response = call(UserFactory(), "post", "slow", {}, **headers)
    assert response.data == {"prepared_inside": False, "inside": bool(headers)}


def test_a_request_whose_place_was_taken_meanwhile_undoes_what_it_did(owner):
    response = call(owner, "post", "slower", {}, **{"Idempotency-Key": "k"})
    assert (response.status_code, response.data["code"]) == (409, "in_progress")
    assert not Dataset.objects.filter(name="twice").exists()


def test_a_change_of_what_was_deleted_meanwhile_is_404(owner, monkeypatch):
    dataset = DatasetFactory(owner=owner)

    def vanish(self: Any, row: Any) -> int:
        Dataset.objects.filter(pk=row.pk).delete()
        return 1

    monkeypatch.setattr(DatasetViews, "expected_version", vanish)
    assert call(owner, "patch", "partial_update", {"name": "new"}, pk=dataset.pk).status_code == 404


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_senseless_keys_are_refused(owner, key):
    response = call(owner, "post", "create", {"name": "one"}, **{"Idempotency-Key": key})
    assert (response.status_code, response.data["errors"][0]["field"]) == (400, "Idempotency-Key")


@pytest.mark.django_db(transaction=True)
def test_of_concurrent_duplicates_exactly_one_works():
    user = UserFactory()
    statuses: list[int] = []
    barrier = threading.Barrier(6)

    def post() -> None:
        barrier.wait()
        try:
            statuses.append(call(user, "post", "create", {"name": "one"}, **{"Idempotency-Key": "k"}).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Dataset.objects.count() == 1
    assert len(statuses) == 6
    assert set(statuses) <= {202, 409}


def test_lists_page_with_a_hard_maximum(owner):
    for _ in range(5):
        DatasetFactory(owner=owner)
    page = call(owner, "get", "list", path="/?page_size=2&page=3").data
    assert (page["count"], len(page["results"]), page["next"]) == (5, 1, None)
    assert call(owner, "get", "list", path="/?page=9").status_code == 404
    assert len(call(owner, "get", "list", path="/?page_size=100000").data["results"]) == 5


def test_cursors_walk_a_list_once_even_while_it_grows(owner):
    made = [DatasetFactory(owner=owner).pk for _ in range(5)]
    seen, path = [], "/?page_size=2"
    while path:
        page = call(owner, "get", "list", path=path, views=CursorViews).data
        seen += [row["id"] for row in page["results"]]
        path = page["next"]
        if len(seen) == 2:
            DatasetFactory(owner=owner, created_at=timezone.now() - timedelta(days=1))
    assert seen == [str(pk) for pk in made]


@pytest.mark.parametrize("cursor", ["nonsense", "cD1ub25zZW5zZQ==", "cD0lMDA="])
def test_a_made_up_cursor_is_the_callers_mistake(owner, cursor):
    DatasetFactory(owner=owner)
    assert call(owner, "get", "list", path=f"/?cursor={cursor}", views=CursorViews).status_code == 404


def test_ordering_is_a_whitelist(owner):
    for name in ("b", "a", "c"):
        DatasetFactory(owner=owner, name=name)
    ordered = call(owner, "get", "list", path="/?ordering=-name").data["results"]
    assert [row["name"] for row in ordered] == ["c", "b", "a"]
    response = call(owner, "get", "list", path="/?ordering=created_by__password")
    assert (response.status_code, response.data["errors"][0]["field"]) == (400, "ordering")


def test_answers_are_for_their_reader_only(dataset, owner):
    response = call(owner, "get", "retrieve", pk=dataset.pk)
    assert response["Cache-Control"] == "private, no-cache"
    assert "Cookie" in response["Vary"]


def test_a_list_takes_the_same_number_of_queries_however_long_it_is(owner, django_assert_num_queries):
    DatasetFactory(owner=owner)
    with django_assert_num_queries(2):
        call(owner, "get", "list")
    for _ in range(10):
        DatasetFactory(owner=owner)
    with django_assert_num_queries(2):
        call(owner, "get", "list")
