"""Idempotency-Key: a POST repeated with the same key is done once and answered twice.

The claim on the key is committed first; the work and its answer are one commit after it. So a repetition finds the
answer, or an open claim (409, come back), or nothing because the first one failed and undid everything.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import ApplicationError, ConflictError, FieldError
from core.models import IdempotencyKey

KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=5)
"""Age at which an open claim belongs to a request that died."""
Handler = Callable[..., Response]
KEPT_HEADERS = ("Location", "ETag", "Retry-After")


class KeyReusedError(ApplicationError):
    code: ClassVar[str] = "idempotency_key_reused"
    status: ClassVar[int] = 422


class InProgressError(ConflictError):
    code: ClassVar[str] = "in_progress"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


def idempotent(handler: Handler) -> Handler:
    """Decorates an action or method (innermost) that starts work; without the header it works as ever."""
    return idempotent_after(None)(handler)


def idempotent_after(prepare: Callable[..., Any] | None) -> Callable[[Handler], Handler]:
    """As `idempotent`, for work that takes long to check: what `prepare`, called as the handler is, returns, the
    handler gets as `prepared`. It runs before the transaction, which keeps others from writing, and must not write.
    """
    return lambda handler: _idempotent(handler, prepare)


def _idempotent(handler: Handler, prepare: Callable[..., Any] | None) -> Handler:
    def prepared(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return {} if prepare is None else {"prepared": prepare(*args, **kwargs)}

    @wraps(handler)
    def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return handler(view, request, *args, **kwargs, **prepared(view, request, *args, **kwargs))
        if not 1 <= len(key) <= 200 or not key.isprintable():
            raise FieldError("Idempotency-Key", "It must have 1 to 200 printable characters.")
        row, is_mine = _claim(request, key)
        if not is_mine:
            return _answer_again(row, request)
        try:
            ready = prepared(view, request, *args, **kwargs)
            with transaction.atomic():
                response = handler(view, request, *args, **kwargs, **ready)
                is_still_mine = IdempotencyKey.objects.filter(pk=row.pk).update(
                    status_code=response.status_code,
                    body=json.loads(JSONRenderer().render(response.data) or b"null"),
                    headers={name: response[name] for name in KEPT_HEADERS if name in response},
                )
                if not is_still_mine:  # it took so long that a repetition took over: undo, that one does it
                    raise InProgressError("A repetition of this request has taken its place.")
        except BaseException:
            IdempotencyKey.objects.filter(pk=row.pk).delete()
            raise
        return response

    answer.is_idempotent = True  # type: ignore[attr-defined]
    return answer


def _claim(request: Request, key: str) -> tuple[IdempotencyKey, bool]:
    """The row of `key`, and whether this request is the one to do the work."""
    now = timezone.now()
    rows = IdempotencyKey.objects.filter(user=request.user, key=key)
    IdempotencyKey.objects.filter(user=request.user, created_at__lt=now - KEPT).delete()
    rows.filter(status_code=None, created_at__lt=now - ABANDONED).delete()
    facts = {"method_and_path": _address(request), "request_hash": _hash(request)}
    try:
        with transaction.atomic():
            return IdempotencyKey.objects.create(user=request.user, key=key, **facts), True
    except IntegrityError:
        row = rows.first()
    if row is None:  # it failed and was withdrawn this very moment
        raise InProgressError("A request with this Idempotency-Key was just withdrawn; try again.")
    return row, False


def _answer_again(row: IdempotencyKey, request: Request) -> Response:
    if (row.method_and_path, row.request_hash) != (_address(request), _hash(request)):
        raise KeyReusedError("This Idempotency-Key was used for another request.")
    if row.status_code is None:
        raise InProgressError("The first request with this Idempotency-Key is still being worked on.")
    return Response(row.body, status=row.status_code, headers={**row.headers, "Idempotency-Replayed": "true"})


def _address(request: Request) -> str:
    return f"{request.method} {request.get_full_path()}"[:500]


def _hash(request: Request) -> str:
    body = json.dumps(request.data, sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()
