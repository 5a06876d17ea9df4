"""The API reference as a page: the OpenAPI document, rendered here, without a script."""

from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from core.api.schema import PROBLEMS


def api_docs(request: HttpRequest) -> HttpResponse:
    return render(request, "core/api_docs.html", {"groups": reference(), "problems": PROBLEMS})


@lru_cache(maxsize=1)
def reference() -> list[dict[str, Any]]:
    """Groups of operations, as the template shows them."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    schemas = document.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for address, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {})
            answers = {code: answer for code, answer in operation["responses"].items() if code[0] in "23"}
            groups.setdefault(operation["tags"][0], []).append(
                {
                    "id": operation["operationId"],
                    "method": method.upper(),
                    "address": address,
                    "summary": operation.get("summary", ""),
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _fields(next(iter(body.values()), {}).get("schema", {}), schemas),
                    "answers": [
                        {
                            "code": code,
                            "media_type": next(iter(answer.get("content", {})), ""),
                            "fields": _fields(
                                next(iter(answer.get("content", {}).values()), {}).get("schema", {}), schemas
                            ),
                        }
                        for code, answer in answers.items()
                    ],
                }
            )
    return [{"name": name, "operations": operations} for name, operations in groups.items()]


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, type, whether it is required, and what is said of it, for each field of an object; lists by their items."""
    schema = _resolve(schema, schemas)
    if schema.get("type") == "array":
        return _fields(schema["items"], schemas)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": _type(part, schemas),
            "required": name in required,
            "description": _resolve(part, schemas).get("description", part.get("description", "")),
        }
        for name, part in schema.get("properties", {}).items()
    ]


def _resolve(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema or len(schema.get("allOf", [])) == 1:
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema["allOf"][0]
    return schema


def _type(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    resolved = _resolve(schema, schemas)
    if options := resolved.get("oneOf") or resolved.get("anyOf"):
        return " or ".join(_type(option, schemas) for option in options)
    if "enum" in resolved:
        return " | ".join(str(value) for value in resolved["enum"])
    if resolved.get("type") == "array":
        return f"list of {_type(resolved['items'], schemas)}"
    kind = resolved.get("type", "any")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    return f"{kind} ({resolved['format']})" if "format" in resolved else kind
