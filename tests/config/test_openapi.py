"""The OpenAPI document is valid, complete, and the one that is kept in the repository."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from openapi_spec_validator import validate

from tests.test_access_matrix import API, OPEN_API, methods

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "openapi.yaml"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    with GENERATOR_STATS.silence():
        made = SchemaGenerator().get_schema(request=None, public=True)
    problems = [*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache]
    assert not problems, problems
    return yaml.safe_load(OpenApiYamlRenderer().render(made, renderer_context={}))


def test_the_document_is_valid_openapi(document):
    validate(document)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="bounds of integers are the database's; kept are SQLite's")
def test_the_document_is_the_one_kept_in_docs(document):
    update = "python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"
    assert document == yaml.safe_load(KEPT.read_text()), f"The API changed. If it was meant to: {update}"


def test_every_route_is_described(document):
    described = {
        (re.sub(r"{(\w+)}", "<>", path), method) for path, item in document["paths"].items() for method in item
    }
    for route in API:
        for method in methods(route):
            if route.name not in OPEN_API and method != "head":
                assert ("/" + re.sub(r"<\w+>", "<>", route.pattern), method) in described, (route.pattern, method)


def test_every_operation_declares_its_problems(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            declared = set(operation["responses"])
            assert {"400", "401", "403", "404", "409", "412", "428", "429", "default"} <= declared, (path, method)


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    assert not [name for name in names if re.search(r"_\d+$", name)]


def test_the_document_and_the_reference_page_are_served(client):
    assert client.get("/api/v1/schema", headers={"Accept": "application/yaml"}).status_code == 200


@pytest.mark.django_db
def test_the_reference_page_shows_every_operation(client, document):
    page = client.get("/api/v1/docs").content.decode()
    for item in document["paths"].values():
        for operation in item.values():
            assert f'id="{operation["operationId"]}"' in page
