"""Errors as problem details (RFC 9457), with a stable `code` and the request's id; nothing internal is ever told."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from core.errors import ApplicationError
from core.middleware import request_id

CONTENT_TYPE = "application/problem+json"


class PreconditionRequiredError(ApplicationError):
    """The view demands an If-Match header and got none."""

    code = "precondition_required"
    status = 428


class TooLargeError(ApplicationError):
    code = "too_large"
    status = 413


def problem(
    status_code: int,
    code: str,
    detail: str,
    errors: Mapping[str, list[str]] | None = None,
    **extensions: Any,
) -> dict[str, Any]:
    """The body of an error; `errors` maps field paths to sentences."""
    body: dict[str, Any] = {
        "type": f"urn:fovea:problem:{code}",
        "title": HTTPStatus(status_code).phrase,
        "status": status_code,
        "detail": detail,
        "code": code,
        "request_id": request_id.get(),
    }
    if errors:
        body["errors"] = [{"field": field, "message": text} for field, texts in errors.items() for text in texts]
    return body | extensions


def problem_response(status_code: int, code: str, detail: str) -> JsonResponse:
    """For errors outside REST framework's views: unknown addresses, crashes."""
    return JsonResponse(problem(status_code, code, detail), status=status_code, content_type=CONTENT_TYPE)


def problem_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None lets Django log the crash; its answer is core.views.server_error."""
    headers: dict[str, str] = {}
    extensions: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    match exc:
        case ApplicationError():
            status_code, code, detail, errors = exc.status, exc.code, exc.detail, exc.errors
            headers = getattr(exc, "headers", {})
            extensions = getattr(exc, "extensions", {})
        case Http404():
            status_code, code, detail = 404, "not_found", "Not found."
        case PermissionDenied():
            status_code, code, detail = 403, "forbidden", str(exc) or "You may not do this."
        case DjangoValidationError():
            status_code, code = 400, "invalid"
            errors = _django_errors(exc)
            detail = _summary(errors)
        case ProtectedError() | RestrictedError():
            status_code, code, detail = 409, "in_use", "Something else still uses it."
        case exceptions.ValidationError():
            status_code, code = 400, "invalid"
            errors = _collect(exc.detail)
            detail = _summary(errors)
        case RequestDataTooBig():
            status_code, code, detail = 413, "too_large", "The request body is too large."
        case SuspiciousOperation():
            status_code, code, detail = 400, "invalid", "The request cannot be understood."
        case exceptions.APIException():
            status_code, detail = exc.status_code, str(exc.detail)
            codes = exc.get_codes()
            code = codes if isinstance(codes, str) else "invalid"
            code = {"permission_denied": "forbidden"}.get(code, code)
            if challenge := getattr(exc, "auth_header", None):
                headers["WWW-Authenticate"] = challenge
            if wait := getattr(exc, "wait", None):
                headers["Retry-After"] = str(int(wait) + 1)
        case _:
            return None
    body = problem(status_code, code, detail, errors, **extensions)
    response = Response(body, status=status_code, headers=headers, content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def _django_errors(exc: DjangoValidationError) -> dict[str, list[str]]:
    if hasattr(exc, "error_dict"):
        return {("" if name == NON_FIELD_ERRORS else name): texts for name, texts in exc.message_dict.items()}
    return {"": exc.messages}


def _collect(detail: Any) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for field, text in _walk(detail, ""):
        errors.setdefault(field, []).append(text)
    return errors


def _walk(detail: Any, path: str) -> Iterator[tuple[str, str]]:
    """(field path, sentence) pairs: {"stages": [{"name": ["…"]}]} gives ("stages.0.name", "…")."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            plain = name in ("non_field_errors", "__all__")
            yield from _walk(inner, path if plain else f"{path}.{name}" if path else str(name))
    elif isinstance(detail, list | tuple):
        for number, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list | tuple)
            yield from _walk(inner, f"{path}.{number}" if nested and path else str(number) if nested else path)
    else:
        yield path, str(detail)


def _summary(errors: Mapping[str, list[str]]) -> str:
    """The first complaint, so that the person reads what is wrong without looking further."""
    for field, texts in errors.items():
        for text in texts:
            return f"{field}: {text}" if field else text
    return "The request is not valid."
