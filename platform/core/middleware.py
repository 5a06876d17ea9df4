"""Every request has an id: the caller's `X-Request-ID` if it is sane, else a new one; it is in logs and errors."""

import re
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

request_id: ContextVar[str] = ContextVar("request_id", default="")
SANE_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


class RequestIdMiddleware:
    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self):
            return self._answer(request)
        _name(request)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id.get()  # type: ignore[index]
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        _name(request)
        response = await self.get_response(request)  # type: ignore[misc]
        response["X-Request-ID"] = request_id.get()
        return response


def _name(request: HttpRequest) -> None:
    given = request.headers.get("X-Request-ID", "")
    request_id.set(given if SANE_ID.match(given) else uuid.uuid4().hex)
