"""Resumable uploads: bytes are appended and synced, and become a recording of the dataset when the last one is there.

The row's `offset` is what the client may rely on; bytes beyond it in the file are a broken-off append and are cut.
"""

import base64
import binascii
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, ClassVar, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from core.audit import record
from core.errors import ApplicationError, ConflictError, FieldError
from labeling.datasets.models import Dataset, DatasetFile, Operation, Upload
from labeling.datasets.naming import safe_filename
from labeling.datasets.operations import start_operation
from labeling.datasets.space import StorageFullError, require_space

SUFFIXES: Final = (".svo2", ".svo", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
CHECKSUMS: Final = ("sha256", "sha1")
CHUNK: Final = 1024 * 1024
KEPT: Final = timedelta(days=7)
UNFINISHED_PER_USER: Final = 100


class UploadTooLargeError(ApplicationError):
    code: ClassVar[str] = "too_large"
    status: ClassVar[int] = 413


class ChecksumError(ApplicationError):
    """The bytes are not those the client meant; the API answers 460, as tus defines it."""

    code: ClassVar[str] = "checksum_mismatch"
    status: ClassVar[int] = 409


class LockedError(ApplicationError):
    code: ClassVar[str] = "upload_locked"
    status: ClassVar[int] = 423


def parse_metadata(header: str) -> dict[str, str]:
    """`Upload-Metadata`: comma-separated pairs of a key and a base64 value. Raises FieldError."""
    values: dict[str, str] = {}
    for pair in filter(None, (item.strip() for item in header.split(","))):
        key, _, encoded = pair.partition(" ")
        try:
            values[key] = base64.b64decode(encoded, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise FieldError("Upload-Metadata", f"The value of “{key[:40]}” is not base64 of UTF-8 text.") from error
    return values


def create_upload(*, user: User, dataset: Dataset, filename: str, length: int, sha256: str = "") -> Upload:
    """Reserve a place for `length` bytes. Raises FieldError, UploadTooLargeError, StorageFullError, ConflictError."""
    _forget_expired()
    name = safe_filename(filename)
    if Path(name).suffix.lower() not in SUFFIXES:
        raise FieldError("filename", f"{name} is no recording: expected one of {', '.join(SUFFIXES)}.")
    if sha256 and (len(sha256) != 64 or not all(digit in "0123456789abcdef" for digit in sha256.lower())):
        raise FieldError("sha256", "It must be 64 hexadecimal digits.")
    if length <= 0:
        raise FieldError("Upload-Length", f"{name} is empty.")
    if length > settings.UPLOAD_MAX_BYTES:
        raise UploadTooLargeError(
            f"{name} has {length:,} bytes; {settings.UPLOAD_MAX_BYTES:,} are allowed (FOVEA_UPLOAD_MAX_BYTES)."
        )
    mine = Upload.objects.filter(user=user, finished_at=None)
    if mine.count() >= UNFINISHED_PER_USER:
        raise ConflictError(f"You have {UNFINISHED_PER_USER} unfinished uploads: finish or cancel some first.")
    settings.UPLOADS_ROOT.mkdir(parents=True, exist_ok=True)
    require_space(settings.UPLOADS_ROOT, length, name)
    upload = Upload.objects.create(user=user, dataset=dataset, filename=name, length=length, sha256=sha256.lower())
    place_of(upload).touch(mode=0o600)
    return upload


def append(*, upload: Upload, offset: int, stream: IO[bytes], length: int | None = None, checksum: str = "") -> Upload:
    """Append `stream` at `offset`; the last byte makes the upload a DatasetFile that is looked into in the background.

    length: of the stream, where it is known. checksum: "<algorithm> <base64>" of the stream. Raises ConflictError for a
    wrong offset, UploadTooLargeError, LockedError while another append runs, ChecksumError, StorageFullError.
    """
    with _locked(upload) as file:
        if offset != upload.offset:
            raise ConflictError(f"The upload stands at byte {upload.offset}, not {offset}.")
        room = upload.length - offset
        if length is not None and length > room:
            raise UploadTooLargeError(f"{upload.filename} was announced with {upload.length:,} bytes; this is more.")
        if upload.finished_at is not None:
            return upload
        require_space(settings.UPLOADS_ROOT, length or 0, upload.filename)
        try:
            written = _write(upload, file, offset, stream, room, checksum)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            os.truncate(place_of(upload), offset)
            raise StorageFullError(f"The disk is full: {upload.filename} stands at byte {offset:,}.") from error
        upload.offset = offset + written
        Upload.objects.filter(pk=upload.pk, offset=offset).update(offset=upload.offset, updated_at=timezone.now())
        if upload.offset == upload.length:
            _finish(upload)
    return upload


def settle_upload(*, upload: Upload) -> Upload:
    """Finish an upload whose last byte is there although its end was never told of (the server was killed)."""
    if upload.finished_at is None and upload.offset == upload.length:
        with _locked(upload):
            if upload.finished_at is None:
                _finish(upload)
    return upload


def cancel_upload(*, upload: Upload) -> None:
    """Forget an unfinished upload and its bytes; a finished one keeps its recording."""
    with _locked(upload):
        place_of(upload).unlink(missing_ok=True)
        upload.delete()


def place_of(upload: Upload) -> Path:
    return settings.UPLOADS_ROOT / str(upload.pk)


def expires_at(upload: Upload) -> datetime:
    return upload.updated_at + KEPT


@contextmanager
def _locked(upload: Upload) -> Iterator[IO[bytes]]:
    """The file of the upload, for one request at a time in any process; `upload` is brought up to date."""
    settings.UPLOADS_ROOT.mkdir(parents=True, exist_ok=True)
    with place_of(upload).open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"{upload.filename} is being uploaded by another request.") from error
        try:
            upload.refresh_from_db()
        except Upload.DoesNotExist as error:
            place_of(upload).unlink(missing_ok=True)
            raise ConflictError("The upload was cancelled meanwhile.") from error
        yield file
        if upload.finished_at is not None:
            place_of(upload).unlink(missing_ok=True)


def _write(upload: Upload, file: IO[bytes], offset: int, stream: IO[bytes], room: int, checksum: str) -> int:
    """Bytes written and synced; the file is as before if they are too many or not those of `checksum`."""
    state, wanted = _expected(checksum)
    size = os.fstat(file.fileno()).st_size
    if size < offset:  # bytes once synced are gone: a disk was restored
        Upload.objects.filter(pk=upload.pk).update(offset=size)
        raise ConflictError(f"The upload stands at byte {size}, not {offset}.")
    file.truncate(offset)
    written = 0
    while chunk := stream.read(CHUNK):
        written += len(chunk)
        if written > room:
            file.truncate(offset)
            raise UploadTooLargeError(f"{upload.filename} was announced with {upload.length:,} bytes; this is more.")
        file.write(chunk)
        if state is not None:
            state.update(chunk)
    if state is not None and state.digest() != wanted:
        file.truncate(offset)
        raise ChecksumError("This part arrived with another checksum than Upload-Checksum says: send it again.")
    file.flush()
    os.fsync(file.fileno())
    return written


def _expected(checksum: str) -> "tuple[hashlib._Hash | None, bytes]":
    if not checksum:
        return None, b""
    algorithm, _, encoded = checksum.partition(" ")
    if algorithm not in CHECKSUMS:
        raise FieldError("Upload-Checksum", f"The algorithm must be one of {', '.join(CHECKSUMS)}.")
    try:
        return hashlib.new(algorithm, usedforsecurity=False), base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise FieldError("Upload-Checksum", "The checksum is not base64.") from error


def _finish(upload: Upload) -> None:
    """Check the promised SHA-256 of the whole, move the file into the dataset, and have it looked into."""
    place = place_of(upload)
    target = settings.DATASETS_ROOT / str(upload.dataset_id) / "uploads" / str(upload.pk) / upload.filename
    # Killed between the move and the commit, only the commit is left to do.
    is_moved = target.exists() and target.stat().st_size == upload.length
    if upload.sha256 and not is_moved:
        with place.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != upload.sha256:
            upload.delete()
            place.unlink()
            raise ChecksumError(
                f"{upload.filename} arrived damaged: its SHA-256 is not the one promised. Upload it again."
            )
    with transaction.atomic():
        file, _ = DatasetFile.objects.get_or_create(
            dataset=upload.dataset,
            path=str(target),
            defaults={"name": upload.filename, "original_path": upload.filename, "size_bytes": upload.length},
        )
        upload.file, upload.finished_at = file, timezone.now()
        upload.save(update_fields=["file", "finished_at", "updated_at"])
        record(upload.user, "file.upload", file, after={"name": file.name, "size_bytes": file.size_bytes})
        start_operation(
            user=upload.user,
            dataset=upload.dataset,
            kind=Operation.Kind.SCAN,
            parameters={"uploaded": upload.filename},
            files=[file],
        )
        if not is_moved:
            target.parent.mkdir(parents=True, exist_ok=True)
            place.replace(target)


def _forget_expired() -> None:
    for upload in Upload.objects.filter(finished_at=None, updated_at__lt=timezone.now() - KEPT)[:100]:
        place_of(upload).unlink(missing_ok=True)
        upload.delete()
