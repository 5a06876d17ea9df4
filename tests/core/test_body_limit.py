"""Bodies that are too large are refused before they are received."""

import asyncio
import json

import pytest

from config.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 1000


@pytest.fixture(autouse=True)
def small(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = LIMIT
    settings.UPLOAD_MAX_BYTES = 10 * LIMIT


def ask(method, size, content_type=b"application/json", told=True, credentials=()):
    """(messages sent, bytes taken) for a request, without credentials unless given as headers."""
    headers = [(b"host", b"localhost"), (b"content-type", content_type), *credentials]
    headers += [(b"content-length", str(size).encode())] if told else []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": "/api/v1/me", "raw_path": b"/api/v1/me", "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("localhost", 80),
    }  # fmt: skip
    sent, taken = [], []

    async def receive():
        if sum(taken) >= size:
            await asyncio.sleep(3600)
        taken.append(100)
        return {"type": "http.request", "body": b"x" * 100, "more_body": sum(taken) < size}

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(application(scope, receive, send), 20))
    return sent, sum(taken)


def test_a_body_whose_length_is_too_large_is_refused_unread():
    [start, body], taken = ask("POST", LIMIT + 100)
    assert (start["status"], taken) == (413, 0)
    assert json.loads(body["body"])["code"] == "too_large"


def test_a_body_of_untold_length_is_cut_off():
    sent, taken = ask("POST", 100 * LIMIT, told=False)
    assert sent == []
    assert taken == LIMIT + 100


@pytest.mark.parametrize(
    ("size", "content_type"), [(LIMIT, b"application/json"), (5 * LIMIT, b"application/offset+octet-stream")]
)
def test_smaller_bodies_and_parts_of_uploads_pass(size, content_type):
    sent, taken = ask("PATCH", size, content_type)
    assert (sent[0]["status"], taken) == (401, size)


def test_a_part_of_an_upload_is_no_larger_than_an_upload():
    [start, _], taken = ask("PATCH", 11 * LIMIT, b"application/offset+octet-stream")
    assert (start["status"], taken) == (413, 0)


UPLOAD = b"application/offset+octet-stream"
COOKIE = (b"cookie", b"csrftoken=a; sessionid=abc")
KEY = (b"authorization", b"Bearer fov_a_b")


@pytest.fixture
def anonymous_limit(monkeypatch):
    monkeypatch.setattr("core.body_limit.ANONYMOUS_MAX_BYTES", 2 * LIMIT)


def test_a_large_part_of_an_upload_by_nobody_is_refused_unread(anonymous_limit):
    for credentials in ([], [(b"cookie", b"csrftoken=a")]):
        [start, body], taken = ask("PATCH", 5 * LIMIT, UPLOAD, credentials=credentials)
        assert (start["status"], taken) == (401, 0)
        assert json.loads(body["body"])["code"] == "not_authenticated"


def test_a_large_part_of_untold_length_by_nobody_is_cut_off(anonymous_limit):
    sent, taken = ask("PATCH", 5 * LIMIT, UPLOAD, told=False)
    assert (sent, taken) == ([], 2 * LIMIT + 100)


@pytest.mark.parametrize("credentials", [[COOKIE], [(b"cookie", b"a=b"), COOKIE], [KEY]])
def test_who_shows_a_session_or_a_key_may_send_it(anonymous_limit, credentials):
    sent, taken = ask("PATCH", 5 * LIMIT, UPLOAD, credentials=credentials)
    assert (sent[0]["status"], taken) == (401, 5 * LIMIT)  # these are not valid, which the view finds
