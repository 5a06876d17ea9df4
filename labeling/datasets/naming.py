"""Names of files we make: from a user's pattern, and from what a browser says a file is called."""

import re
import string
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from core.errors import FieldError

DEFAULT_PATTERN: Final = "{name}"
PLACEHOLDERS: Final = ("name", "number", "serial", "kind", "date", "dataset")
NUMBER_FORMAT: Final = re.compile(r"^(0?[1-9]d?|d)?$")
LONGEST: Final = 150
WINDOWS_DEVICES: Final = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)$", re.IGNORECASE)


def safe_filename(name: str, fallback: str = "recording") -> str:
    """The last part of `name` without anything a file system or shell could take amiss; never empty, never hidden."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = re.sub(r"[^\w.\- ]", "_", last, flags=re.UNICODE).strip(". ")
    stem, dot, suffix = cleaned.rpartition(".")
    if not dot:
        stem, suffix = cleaned, ""
    suffix = suffix[:16]
    room = LONGEST - len(suffix) - 1
    while len(stem.encode()) > room:
        stem = stem[:-1]
    stem = stem.strip(". ") or fallback
    if WINDOWS_DEVICES.match(stem):
        stem = f"_{stem}"
    return f"{stem}.{suffix}" if suffix else stem


def check_pattern(pattern: str, field: str = "rename") -> str:
    """`pattern` if it can be filled in; raises FieldError. {number} takes a width, such as {number:04d}."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise FieldError(field, f"The pattern cannot be read: {error}.") from error
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS or conversion:
            known = ", ".join(f"{{{item}}}" for item in PLACEHOLDERS)
            raise FieldError(field, f"There is no placeholder {{{name}}}; known are {known}.")
        if spec and not (name == "number" and NUMBER_FORMAT.match(spec)):
            raise FieldError(field, f"Only {{number}} takes a format, such as {{number:04d}}; “:{spec}” is none.")
    if not {name for _, name, _, _ in parts} & {"name", "number"}:
        raise FieldError(field, "The pattern needs {name} or {number}, or all files would be called the same.")
    if len(pattern) > 100 or "/" in pattern or "\\" in pattern:
        raise FieldError(field, "The pattern has up to 100 characters and no slashes.")
    return pattern


def filled(pattern: str, values: Mapping[str, Any], suffix: str) -> str:
    return safe_filename(pattern.format_map(values) + suffix)


def numbered(name: str, number: int) -> str:
    """`name` with `-number` before its suffix: for the second file that would be called the same."""
    path = PurePosixPath(name)
    return f"{path.stem}-{number}{path.suffix}"
