"""Errors are problem details, whatever went wrong and wherever."""

import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import RestrictedError
from django.http import Http404
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.throttling import SimpleRateThrottle

from core.api.views import ANYONE, ApiView
from core.errors import ConflictError, FieldError, NotFoundError
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


class Size(serializers.Serializer[Any]):
    height = serializers.FloatField(min_value=0)


class Order(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=5)
    sizes = Size(many=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["name"] == "wrong":
            raise serializers.ValidationError("The whole is wrong.")
        return attrs


class RaisingView(ApiView):
    error: Exception

    def get(self, request: Any) -> Response:
        raise self.error


class EchoView(ApiView):
    role_required = {"post": ANYONE}

    def post(self, request: Any) -> Response:
        order = Order(data=request.data)
        order.is_valid(raise_exception=True)
        return Response(order.validated_data)


class AnythingView(ApiView):
    role_required = {"post": ANYONE}

    def post(self, request: Any) -> Response:
        return Response(request.data)


def answer(view: Any, request: Any, **kwargs: Any) -> Response:
    force_authenticate(request, UserFactory())
    response = view(request, **kwargs)
    response.render()
    return response


def raised(error: Exception) -> Response:
    return answer(RaisingView.as_view(error=error), APIRequestFactory().get("/"))


def posted(view: Any, body: str | bytes) -> Response:
    request = APIRequestFactory().generic("POST", "/", body, content_type="application/json")
    return answer(view.as_view(), request)


RaisingView.error = Exception()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFoundError("There is no dataset."), 404, "not_found"),
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (ConflictError("It runs."), 409, "conflict"),
        (FieldError("ratio", "Must sum to 1."), 400, "invalid_field"),
        (RestrictedError("Cannot delete Track 5 of someone.", set()), 409, "in_use"),
        (DjangoValidationError({"name": ["Too long."]}), 400, "invalid"),
    ],
)
def test_known_errors_become_problems(error, status, code):
    response = raised(error)
    body = json.loads(response.content)
    assert response["Content-Type"] == "application/problem+json"
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"urn:fovea:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert "request_id" in body


def test_an_error_of_one_field_names_it():
    assert raised(FieldError("ratio", "Must sum to 1.")).data["errors"] == [
        {"field": "ratio", "message": "Must sum to 1."}
    ]


def test_nested_validation_errors_name_the_path_of_each_field():
    response = posted(EchoView, json.dumps({"name": "too long", "sizes": [{"height": 1}, {"height": -1}]}))
    assert response.status_code == 400
    assert [error["field"] for error in response.data["errors"]] == ["name", "sizes.1.height"]
    assert response.data["detail"].startswith("name: ")


def test_errors_of_the_whole_have_no_field():
    response = posted(EchoView, json.dumps({"name": "wrong", "sizes": []}))
    assert response.data["errors"] == [{"field": "", "message": "The whole is wrong."}]
    assert response.data["detail"] == "The whole is wrong."


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"name": "a\\u0000b"}', "name"),
        ('{"size": {"height": NaN}}', "size.height"),
        ('{"sizes": [1, Infinity]}', "sizes.1"),
        ('{"size": -Infinity}', "size"),
        ('{"size": 1e999}', "size"),
        ('{"name": "\\ud800"}', "name"),
        ('{"outer": {"in\\u0000ner": 1}}', "outer"),
    ],
)
def test_json_that_no_database_keeps_is_refused_by_field(body, field):
    response = posted(AnythingView, body)
    assert response.status_code == 400
    assert [error["field"] for error in response.data["errors"]] == [field]


@pytest.mark.parametrize("body", ["{", b"\xff\xfe", "[" * 100_000, "9" * 10_000])
def test_bodies_that_are_no_json_are_the_callers_mistake(body):
    response = posted(AnythingView, body)
    assert (response.status_code, response.data["code"]) == (400, "parse_error")


def test_bodies_over_the_limit_are_refused(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    assert posted(AnythingView, json.dumps("x" * 98)).status_code == 200
    response = posted(AnythingView, json.dumps("x" * 99))
    assert (response.status_code, response.data["code"]) == (413, "too_large")


def test_nul_in_an_address_or_a_filter_is_refused():
    view = RaisingView.as_view(error=NotFoundError("Never reached."))
    assert answer(view, APIRequestFactory().get("/?name=a%00b")).status_code == 400
    assert answer(view, APIRequestFactory().get("/"), name="a\x00b").status_code == 400


def test_throttled_callers_learn_when_to_come_back():
    class OncePerMinute(SimpleRateThrottle):
        rate = "1/min"

        def get_cache_key(self, request: Any, view: Any) -> str:
            return f"test-{request.user.pk}"

    user = UserFactory()
    view = AnythingView.as_view(throttle_classes=[OncePerMinute])

    def call() -> Response:
        request = APIRequestFactory().post("/", {}, format="json")
        force_authenticate(request, user)
        return view(request).render()

    assert call().status_code == 200
    response = call()
    assert (response.status_code, response.data["code"]) == (429, "throttled")
    assert 1 <= int(response["Retry-After"]) <= 61


def test_unknown_addresses_of_the_api_are_problems_and_those_of_pages_are_pages(client):
    response = client.get("/api/v1/nothing-here")
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")
    assert response.json()["code"] == "not_found"
    page = client.get("/nothing-here")
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_wrong_methods_and_media_types_are_problems():
    api = APIClient()
    api.force_authenticate(UserFactory())
    assert api.put("/api/v1/me", {}).json()["code"] == "method_not_allowed"
    response = api.patch("/api/v1/me", "<xml/>", content_type="text/xml")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_crashes_tell_nothing_of_the_inside(client, monkeypatch):
    def crash(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("secret path /etc/fovea")

    monkeypatch.setattr("accounts.api.views.MeView.get", crash)
    client.force_login(UserFactory())
    client.raise_request_exception = False
    response = client.get("/api/v1/me")
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")
    assert response.json()["code"] == "server_error"
    assert "secret" not in response.content.decode()
    assert response.json()["request_id"] == response["X-Request-ID"]


def test_the_callers_request_id_is_kept_if_it_is_sane(client):
    assert client.get("/api/v1/me", headers={"X-Request-ID": "trace-7"}).json()["request_id"] == "trace-7"
    forged = client.get("/api/v1/me", headers={"X-Request-ID": "a b;c"})
    assert forged["X-Request-ID"] != "a b;c"
    assert len(forged["X-Request-ID"]) == 32
