"""How much a request may send: refused before it is received, for Django would write all of it to disk first.

A part of an upload (tus) may be as large as an upload; everything else is held in memory once read, and is far smaller.
Who shows neither a key nor a session has nothing large to send. Whether what is shown holds, the views find out.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.http import parse_cookie

from core.api.errors import CONTENT_TYPE, problem

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
UPLOAD_TYPE = b"application/offset+octet-stream"
ANONYMOUS_MAX_BYTES = 1024**2


def with_body_limit(application: Application) -> Application:
    """`application` (HTTP over ASGI), never given more of a body than is allowed: 413, or 401 where signing in would
    help, or a broken connection where the length was not told beforehand.
    """

    async def limited(scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        is_upload = scope["method"] == "PATCH" and headers.get(b"content-type") == UPLOAD_TYPE
        limit = settings.UPLOAD_MAX_BYTES if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        told = headers.get(b"content-length", b"")
        if told.isdigit() and int(told) > limit:
            await _refuse(send, 413, "too_large", f"The request body is larger than {limit:,} bytes.")
            return
        if _is_anonymous(scope):
            limit = min(limit, ANONYMOUS_MAX_BYTES)
            if told.isdigit() and int(told) > limit:
                await _refuse(send, 401, "not_authenticated", f"Sign in to send more than {limit:,} bytes.")
                return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > limit else message

        await application(scope, counted, send)

    return limited


def _is_anonymous(scope: Message) -> bool:
    """Whether the request has neither an Authorization header nor a session cookie."""
    if any(name == b"authorization" for name, _ in scope["headers"]):
        return False
    cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    return not parse_cookie(cookies.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    body = json.dumps(problem(status, code, detail)).encode()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fovea"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
