"""Bytes to the browser: files in ranges, archives as they are made. Memory stays flat whatever their size.

Django's FileResponse is of no use under ASGI: it reads the whole file into memory and ignores Range.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified, StreamingHttpResponse
from django.utils.http import content_disposition_header, parse_etags

from core.errors import NotFoundError

CHUNK = 256 * 1024
WHOLE_UP_TO = 1024 * 1024
"""Files up to this size are read at once: one thread hop instead of many."""
RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


class FileMissingError(NotFoundError):
    """The row is there and the caller may see it, but its bytes are gone."""

    code = "file_missing"


def ranged_response(
    request: HttpRequest,
    path: Path,
    content_type: str,
    *,
    etag: str = "",
    immutable: bool = False,
    attachment: str = "",
) -> HttpResponseBase:
    """The file at `path`, which the caller has checked: 200, 206, 304 or 416; HEAD without a body.

    etag: without quotes; default from the file's time and size. immutable: the address names the content (a hash or a
    version is in it), so it is cached for a year. attachment: file name to save it under. To be returned from a
    synchronous or an asynchronous view. Raises FileMissingError.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise FileMissingError("The file is not there any more.") from error
    tag = f'"{etag or f"{facts.st_mtime_ns:x}-{facts.st_size:x}"}"'
    headers = {
        "ETag": tag,
        "Last-Modified": formatdate(facts.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable" if immutable else "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if attachment and (disposition := content_disposition_header(True, attachment)):
        headers["Content-Disposition"] = disposition
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" in known or tag in known or f"W/{tag}" in known:
        return HttpResponseNotModified(headers=headers)
    if settings.MEDIA_X_ACCEL_PREFIX and path.is_relative_to(settings.MEDIA_ROOT):
        inner = quote(path.relative_to(settings.MEDIA_ROOT).as_posix())
        headers["X-Accel-Redirect"] = f"{settings.MEDIA_X_ACCEL_PREFIX.rstrip('/')}/{inner}"
        return HttpResponse(headers=headers, content_type=content_type)

    start, stop, status = 0, facts.st_size, 200
    wanted = _range(request, tag, facts.st_mtime, facts.st_size)
    if wanted is not None:
        start, stop = wanted
        status = 206
        if start >= stop:
            return HttpResponse(status=416, headers=headers | {"Content-Range": f"bytes */{facts.st_size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{facts.st_size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers, content_type=content_type)
    # Opened now, so that a file that goes away is a 404 and not a broken body.
    file = path.open("rb")
    if stop - start <= WHOLE_UP_TO:
        with file:
            file.seek(start)
            return HttpResponse(file.read(stop - start), status=status, headers=headers, content_type=content_type)
    response = StreamingHttpResponse(
        _read(file, start, stop), status=status, headers=headers, content_type=content_type
    )
    response._resource_closers.append(file.close)
    return response


def streamed_response(
    chunks: Iterable[bytes], content_type: str, *, attachment: str, length: int | None = None
) -> StreamingHttpResponse:
    """A download made while it is sent, such as a ZIP by zipstream. `chunks` must not touch the database."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}
    if disposition := content_disposition_header(True, attachment):
        headers["Content-Disposition"] = disposition
    if length is not None:
        headers["Content-Length"] = str(length)
    return StreamingHttpResponse(in_thread(chunks), headers=headers, content_type=content_type)


async def in_thread(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """`chunks`, each made in a thread, so that the event loop stays free and only one is held at a time."""
    iterator = iter(chunks)
    try:
        while (chunk := await asyncio.to_thread(next, iterator, None)) is not None:
            yield chunk
    finally:
        if close := getattr(iterator, "close", None):
            close()


async def _read(file: IO[bytes], start: int, stop: int) -> AsyncIterator[bytes]:
    position = start
    while position < stop:
        # pread: no shared file position, so a chunk still being read when the client leaves does no harm.
        chunk = await asyncio.to_thread(os.pread, file.fileno(), min(CHUNK, stop - position), position)
        if not chunk:
            return
        position += len(chunk)
        yield chunk


def _range(request: HttpRequest, tag: str, modified: float, size: int) -> tuple[int, int] | None:
    """(first, one past the last) byte; empty if it cannot be satisfied; None for the whole file."""
    header = request.headers.get("Range")
    if header is None or request.method not in ("GET", "HEAD"):
        return None
    condition = request.headers.get("If-Range")
    if condition and condition != tag and not _is_date(condition, modified):
        return None
    match = RANGE.match(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start = int(first)
    if last and int(last) < start:
        return None
    return start, min(int(last) + 1, size) if last else size


def _is_date(condition: str, modified: float) -> bool:
    try:
        return int(parsedate_to_datetime(condition).timestamp()) == int(modified)
    except (TypeError, ValueError):
        return False
