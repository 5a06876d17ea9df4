"""Asking the process that keeps the models (`model_server`) over its Unix socket, without loading any library.

Each message is JSON, preceded by its length (4 bytes, big endian).
"""

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pipeline.errors import PipelineError

MOST_BYTES: Final = 32 * 1024 * 1024
PATIENCE_SECONDS: Final = 3.0
"""How long a socket that nobody listens at is tried."""
_LENGTH: Final = struct.Struct(">I")


class ModelServerError(PipelineError):
    """The model server is not there, does not answer, or says why it cannot."""

    code = "model_server"


class _CutShortError(ModelServerError):
    """The other side went away."""


def ask(address: Path, request: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    """The server's answer. Raises ModelServerError with its sentence, or that nobody answers at `address`."""
    try:
        try:
            answer = _asked(address, request, timeout_s)
        except (ConnectionResetError, BrokenPipeError, _CutShortError):  # it died of something; there will be another
            answer = _asked(address, request, timeout_s)
    except TimeoutError as error:
        raise ModelServerError("The model did not answer in time: try again in a moment.") from error
    except OSError as error:
        raise ModelServerError("Nobody serves models on this machine: start a worker (manage.py up).") from error
    if "error" in answer:
        raise ModelServerError(str(answer["error"]))
    return answer


def _asked(address: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    with _connected(address, timeout_s) as connection:
        send(connection, request)
        answer: dict[str, Any] = receive(connection)
        return answer


def _connected(address: Path, timeout_s: float) -> socket.socket:
    ends = time.monotonic() + min(PATIENCE_SECONDS, timeout_s)
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            with short_address(address) as short:
                connection.connect(short)
        except ConnectionRefusedError:  # a worker's that ended: another one is about to take its place
            connection.close()
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
        except OSError:
            connection.close()
            raise
        else:
            return connection


@contextmanager
def short_address(address: Path) -> Iterator[str]:
    """The path of a socket, short enough for the kernel (108 bytes) however deep its folder lies."""
    folder = os.open(address.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    content = json.dumps(message, allow_nan=False).encode()
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket) -> Any:
    """Raises ModelServerError for what is no message."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > MOST_BYTES:
        raise ModelServerError("The message is too long.")
    try:
        return json.loads(_exactly(connection, length))
    except ValueError as error:
        raise ModelServerError("The message is no JSON.") from error


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = connection.recv(min(count - len(content), 1 << 16))
        if not part:
            raise _CutShortError("The connection ended before the message did.")
        content += part
    return bytes(content)
