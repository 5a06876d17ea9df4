"""Every route × everyone: who is not signed in, whose key only reads, who is a stranger, and each role.

The routes are read from the URL configuration, so the matrix grows by itself. A route whose view does not say what role
it needs fails here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import SAFE_METHODS
from rest_framework.test import APIClient

from accounts.models import Role
from accounts.services import create_api_key
from core.api.views import ANYONE, AccessMixin
from tests.access_policies import HEADERS, IDS, OPEN_API, OPEN_PAGES, OWN, PERSONAL, WORDS, World

pytestmark = pytest.mark.django_db
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^()]*\)")
HTTP_METHODS = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Route:
    """`pattern` is what stands in the address bar, parameters as <name>."""

    pattern: str
    name: str
    callback: Any

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"<(\w+)>", self.pattern)

    @property
    def is_scoped(self) -> bool:
        """Whether an id of something in a dataset stands in the address."""
        return bool(self.ids)

    @property
    def ids(self) -> list[str]:
        return [parameter for parameter in self.parameters if parameter not in WORDS]

    def address(self, world: World, first_id_from: World | None = None) -> str:
        """`first_id_from` gives the first id in place of `world`: a parent with a child that is not its own."""
        address, segments = "", self.pattern.split("/")
        for number, segment in enumerate(segments):
            match = re.fullmatch(r"<(\w+)>", segment)
            if match is None:
                value = re.sub(r"<(\w+)>", lambda found: str(WORDS[found[1]]), segment)
            elif match[1] in WORDS:
                value = str(WORDS[match[1]])
            else:
                before = segments[number - 1]
                assert before in IDS, f"{self.pattern}: tests/access_policies.IDS says nothing of an id after {before}/"
                value = str(IDS[before](first_id_from or world))
                first_id_from = None
            address += f"/{value}"
        return address


def _routes(patterns: list[Any], prefix: str = "", namespace: str = "") -> Iterator[Route]:
    for item in patterns:
        raw = str(item.pattern)
        text = PARAMETER.sub(lambda match: f"<{match[1] or match[2]}>", raw).lstrip("^").replace("\\.", ".")
        text = re.sub(r"(\\Z|\$)$", "", text)
        if isinstance(item, URLResolver):
            inner = f"{namespace}{item.namespace}:" if item.namespace else namespace
            yield from _routes(item.url_patterns, prefix + text, inner)
        elif isinstance(item, URLPattern):
            yield Route(prefix + text, f"{namespace}{item.name}", item.callback)


ROUTES = [route for route in _routes(get_resolver().url_patterns) if not route.pattern.startswith("admin/")]
API = [route for route in ROUTES if route.pattern.startswith("api/") and not route.name.startswith("api-docs")]
PAGES = [route for route in ROUTES if route not in API]


def methods(route: Route) -> dict[str, str]:
    """HTTP method → action (or the method again, in a plain view)."""
    actions = getattr(route.callback, "actions", None)
    if actions:
        return {method: action for method, action in actions.items() if method in HTTP_METHODS}
    return {method: method for method in HTTP_METHODS if hasattr(route.callback.cls, method) and method != "head"}


CALLS = [(route, method, action) for route in API for method, action in methods(route).items()]
GUARDED = [call for call in CALLS if call[0].name not in OPEN_API]


def name_of(value: Any) -> str:
    return value.pattern if isinstance(value, Route) else str(value)


def needed(route: Route, method: str, action: str) -> Any:
    required = route.callback.cls.role_required
    return required.get(action, ANYONE) if method.upper() in SAFE_METHODS else required[action]


def call(client: APIClient, method: str, address: str) -> Any:
    """Send it and undo it."""
    client.raise_request_exception = False
    body = {} if method in ("get", "head") else {"data": {}, "format": "json"}
    with transaction.atomic():
        response = getattr(client, method)(address, headers=HEADERS, **body)
        if response.streaming:
            response.close()
        transaction.set_rollback(True)
    return response


@pytest.fixture(scope="module")
def worlds(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[World, World]]:
    """Made once: every call is undone, so nobody changes them."""
    with django_db_blocker.unblock(), transaction.atomic():
        built = World(), World()
        with django_db_blocker.block():
            yield built
        transaction.set_rollback(True)


@pytest.fixture
def world(worlds: tuple[World, World]) -> World:
    return worlds[0]


@pytest.fixture
def neighbour(worlds: tuple[World, World]) -> World:
    """Another dataset with all that is in it; nobody is a member of both."""
    return worlds[1]


@pytest.mark.parametrize("route", API, ids=name_of)
def test_every_api_route_says_what_role_it_needs(route):
    if route.name in OPEN_API:
        return
    view = route.callback.cls
    assert issubclass(view, AccessMixin), f"{view.__name__} is no ApiView or ApiViewSet: nothing guards it"
    for method, action in methods(route).items():
        if method.upper() not in SAFE_METHODS:
            assert action in view.role_required, f"{view.__name__}.role_required says nothing of {action}"


@pytest.mark.parametrize(("route", "method", "action"), GUARDED, ids=name_of)
def test_without_credentials_every_route_is_401(world, route, method, action):
    response = call(APIClient(), method, route.address(world))
    assert response.status_code == 401
    assert "WWW-Authenticate" in response


@pytest.mark.parametrize(("route", "method", "action"), GUARDED, ids=name_of)
def test_a_read_only_key_of_an_owner_reads_and_does_not_write(world, route, method, action):
    _, text = create_api_key(user=world.members[Role.OWNER], name="look")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    response = call(client, method, route.address(world))
    if method.upper() in SAFE_METHODS:
        assert response.status_code not in (401, 403, 500)
    else:
        assert (response.status_code, response.json()["code"]) == (403, "read_only_key")


@pytest.mark.parametrize(("route", "method", "action"), [c for c in GUARDED if c[0].is_scoped], ids=name_of)
def test_to_a_stranger_nothing_of_the_dataset_exists(world, route, method, action):
    client = APIClient()
    client.force_authenticate(world.stranger)
    assert call(client, method, route.address(world)).status_code == 404


@pytest.mark.parametrize(("route", "method", "action"), [c for c in GUARDED if len(c[0].ids) > 1], ids=name_of)
def test_through_ones_own_dataset_nobody_reaches_what_lies_in_another(world, neighbour, route, method, action):
    client = APIClient()
    client.force_authenticate(neighbour.members[Role.OWNER])
    assert call(client, method, route.address(world, first_id_from=neighbour)).status_code == 404


@pytest.mark.parametrize(("route", "method", "action"), [c for c in GUARDED if not c[0].is_scoped], ids=name_of)
def test_lists_show_a_stranger_nothing_of_the_dataset(world, route, method, action):
    client = APIClient()
    client.force_authenticate(world.stranger)
    response = call(client, method, route.address(world))
    assert response.status_code not in (401, 500)
    if method == "get" and not response.streaming:
        told = response.content.decode()
        for row in (world.dataset, world.job, world.file, world.training_dataset, world.api_key):
            assert str(row.pk) not in told


@pytest.mark.parametrize(("route", "method", "action"), [c for c in GUARDED if c[0].name not in OWN], ids=name_of)
def test_each_role_may_do_what_it_is_for_and_no_more(world, route, method, action):
    required = needed(route, method, action)
    for role, member in world.members.items():
        client = APIClient()
        client.force_authenticate(member)
        response = call(client, method, route.address(world))
        told = f"{role} got {response.status_code}: {response.content[:300] if not response.streaming else ''}"
        if required is not ANYONE and role.rank < required.rank:
            assert response.status_code == 403, told
        elif route.name in PERSONAL and role is not Role.OWNER:
            assert response.status_code == 404, told
        else:
            assert response.status_code not in (401, 403, 405, 500), told
            # "Not found." is what the scope says; where only bytes are missing, the view says so in its own words.
            is_hidden = response.status_code == 404 and response.json()["detail"] == "Not found."
            assert not (is_hidden and route.is_scoped), told


@pytest.mark.parametrize("route", [route for route in API if route.name in OWN and route.is_scoped], ids=name_of)
def test_what_belongs_to_another_account_exists_for_nobody_else(world, route):
    for method in methods(route):
        for person in (*world.members.values(), world.stranger):
            client = APIClient()
            client.force_authenticate(person)
            assert call(client, method, route.address(world)).status_code == 404


@pytest.mark.parametrize("route", [route for route in PAGES if route.name not in OPEN_PAGES], ids=name_of)
def test_every_page_sends_those_not_signed_in_to_sign_in(world, route):
    client = Client(raise_request_exception=False)
    response = client.get(route.address(world))
    if response.status_code == 405:
        response = client.post(route.address(world))
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/sign-in")


@pytest.mark.parametrize("route", [route for route in PAGES if route.name in OPEN_PAGES], ids=name_of)
def test_open_pages_open_for_everyone(world, route):
    assert Client().get(route.address(world)).status_code in (200, 302, 405)


@pytest.mark.parametrize("route", [route for route in PAGES if route.is_scoped], ids=name_of)
def test_to_a_stranger_no_page_of_the_dataset_exists(world, route):
    client = Client(raise_request_exception=False)
    client.force_login(world.stranger)
    response = client.get(route.address(world))
    if response.status_code == 405:
        response = client.post(route.address(world))
    assert response.status_code == 404


@pytest.mark.parametrize("route", [route for route in PAGES if route.is_scoped and route.name not in OWN], ids=name_of)
def test_every_page_opens_for_an_owner_and_none_crashes_for_a_viewer(world, route):
    for role in (Role.OWNER, Role.VIEWER):
        client = Client(raise_request_exception=False)
        client.force_login(world.members[role])
        response = client.get(route.address(world))
        allowed = (200, 302, 304, 400, 404, 405) if role is Role.OWNER else (200, 302, 304, 400, 403, 404, 405)
        assert response.status_code in allowed


def test_the_matrix_sees_the_routes_there_are():
    assert len(API) > 10
    assert {"me", "api-key-list", "dataset-detail", "job-detail"} <= {route.name for route in API}
