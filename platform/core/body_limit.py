"""How much a request may send: refused before it is received, for Django would write all of it to disk first.

A part of an upload (tus) may be as large as an upload; everything else is held in memory once read, and is far smaller.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from core.api.errors import CONTENT_TYPE, problem

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
UPLOAD_TYPE = b"application/offset+octet-stream"


def with_body_limit(application: Application) -> Application:
    """`application` (HTTP over ASGI), never given more of a body than is allowed: 413, or a broken connection where
    the length was not told beforehand.
    """

    async def limited(scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        is_upload = scope["method"] == "PATCH" and headers.get(b"content-type") == UPLOAD_TYPE
        limit = settings.UPLOAD_MAX_BYTES if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        told = headers.get(b"content-length", b"")
        if told.isdigit() and int(told) > limit:
            await _refuse(send, limit)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return {"type": "http.disconnect"} if received > limit else message

        await application(scope, counted, send)

    return limited


async def _refuse(send: Send, limit: int) -> None:
    body = json.dumps(problem(413, "too_large", f"The request body is larger than {limit:,} bytes.")).encode()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
