"""Ranges, conditions and streams as RFC 9110 has them, in flat memory."""

import asyncio
import tracemalloc
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponseBase
from django.test import RequestFactory

from core.errors import NotFoundError
from core.media import CHUNK, WHOLE_UP_TO, ranged_response, streamed_response

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "frame.bin"
    path.write_bytes(CONTENT)
    return path


def get(file: Path, method: str = "get", *, options: dict[str, Any] | None = None, **headers: str) -> HttpResponseBase:
    request = getattr(RequestFactory(), method)("/", headers={name.replace("_", "-"): v for name, v in headers.items()})
    return ranged_response(request, file, "application/octet-stream", **(options or {}))


def body(response: HttpResponseBase) -> bytes:
    if not response.streaming:
        return response.content

    async def collect() -> bytes:
        return b"".join([part async for part in response])

    return asyncio.run(collect())


def test_a_whole_file_is_sent_with_its_length_and_is_not_sniffed(file):
    response = get(file)
    assert (response.status_code, body(response)) == (200, CONTENT)
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Accept-Ranges"] == "bytes"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, 1024),
        ("bytes=1000-5000", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-5000", 0, 1024),
        ("bytes=0-", 0, 1024),
    ],
)
def test_a_range_is_sent_alone(file, header, start, stop):
    response = get(file, Range=header)
    assert (response.status_code, body(response)) == (206, CONTENT[start:stop])
    assert response["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    assert response["Content-Length"] == str(stop - start)


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_and_tells_the_length(file, header):
    response = get(file, Range=header)
    assert (response.status_code, response["Content-Range"], body(response)) == (416, "bytes */1024", b"")


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
def test_ranges_that_are_malformed_or_many_give_the_whole_file(file, header):
    assert (get(file, Range=header).status_code, body(get(file, Range=header))) == (200, CONTENT)


def test_head_has_the_headers_without_the_body(file):
    response = get(file, "head", Range="bytes=0-9")
    assert (response.status_code, response["Content-Length"], body(response)) == (206, "10", b"")


def test_a_known_etag_is_answered_304(file):
    tag = get(file)["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        response = get(file, If_None_Match=known)
        assert (response.status_code, response["ETag"], body(response)) == (304, tag, b"")
    assert get(file, If_None_Match='"other"').status_code == 200


def test_a_changed_file_has_another_etag(file):
    before = get(file)["ETag"]
    file.write_bytes(CONTENT + b"x")
    assert get(file)["ETag"] != before


def test_a_range_of_an_older_version_gives_the_whole_new_one(file):
    tag = get(file)["ETag"]
    modified = formatdate(file.stat().st_mtime, usegmt=True)
    assert get(file, Range="bytes=0-9", If_Range=tag).status_code == 206
    assert get(file, Range="bytes=0-9", If_Range=modified).status_code == 206
    assert get(file, Range="bytes=0-9", If_Range='"old"').status_code == 200
    assert get(file, Range="bytes=0-9", If_Range="no date").status_code == 200


def test_an_empty_file_is_an_empty_answer(tmp_path):
    (tmp_path / "empty").touch()
    assert (get(tmp_path / "empty").status_code, get(tmp_path / "empty")["Content-Length"]) == (200, "0")
    assert get(tmp_path / "empty", Range="bytes=0-").status_code == 416


def test_content_named_by_its_address_is_cached_for_good_and_attachments_have_a_name(file):
    response = get(file, options={"immutable": True, "etag": "abc", "attachment": "näme\r\n.bin"})
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response["ETag"] == '"abc"'
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''n%C3%A4me")
    assert "\r" not in response["Content-Disposition"]


def test_a_file_that_is_gone_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        get(tmp_path / "gone")


def test_behind_nginx_the_bytes_are_left_to_it(file, settings):
    settings.MEDIA_X_ACCEL_PREFIX = "/protected"
    settings.MEDIA_ROOT = file.parent
    inside = file.with_name("a b?.bin")
    inside.write_bytes(CONTENT)
    response = get(inside)
    assert (response["X-Accel-Redirect"], body(response)) == ("/protected/a%20b%3F.bin", b"")
    settings.MEDIA_ROOT = file.parent / "other"
    assert body(get(file)) == CONTENT


def test_large_files_stream_in_flat_memory(tmp_path):
    large = tmp_path / "large.bin"
    with large.open("wb") as handle:
        handle.seek(64 * 1024**2 - 1)
        handle.write(b"\x01")
    assert large.stat().st_size > WHOLE_UP_TO

    async def count() -> int:
        return sum([len(part) async for part in get(large)])

    tracemalloc.start()
    try:
        assert asyncio.run(count()) == 64 * 1024**2
        assert tracemalloc.get_traced_memory()[1] < 12 * CHUNK
    finally:
        tracemalloc.stop()


def test_a_download_is_made_while_it_is_sent_and_stops_when_the_client_leaves():
    made: list[int] = []
    closed: list[bool] = []

    def chunks() -> Any:
        try:
            for number in range(100):
                made.append(number)
                yield b"x" * 10
        finally:
            closed.append(True)

    async def leave_after(parts: int) -> None:
        stream = aiter(streamed_response(chunks(), "application/zip", attachment="set.zip", length=1000))
        for _ in range(parts):
            await anext(stream)
        await stream.aclose()

    asyncio.run(leave_after(3))
    assert (made, closed) == ([0, 1, 2], [True])
    response = streamed_response(chunks(), "application/zip", attachment="set.zip", length=1000)
    assert (response["Content-Length"], response["Content-Disposition"]) == ("1000", 'attachment; filename="set.zip"')
    assert body(response) == b"x" * 1000
