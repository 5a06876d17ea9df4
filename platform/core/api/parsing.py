"""JSON as every database can keep it: NUL characters, lone surrogates, NaN and infinities are refused by field."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from core.api.errors import TooLargeError


class GuardedJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Raises TooLargeError, ParseError or a ValidationError that names the field."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise TooLargeError(f"The request body is larger than {limit:,} bytes.")
        try:
            value = json.loads(raw.decode("utf-8"))
            complaints = list(_complaints(value, ""))
        except UnicodeDecodeError as error:
            raise ParseError("The request body is not UTF-8.") from error
        except RecursionError as error:
            raise ParseError("The request body is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The request body is not JSON: {error}") from error
        if complaints:
            raise ValidationError({field: [text] for field, text in complaints})
        return value


def _complaints(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if text := complaint_about(value):
            yield path, text
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, "Numbers must be finite: NaN and infinities are not allowed."
    elif isinstance(value, dict):
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            if text := complaint_about(name):
                yield path, f"A name is not allowed: {text}"
            else:
                yield from _complaints(inner, where)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _complaints(inner, f"{path}.{number}" if path else str(number))


def complaint_about(text: str) -> str:
    """What makes `text` unfit for a database column; empty if nothing does."""
    if "\x00" in text:
        return "NUL characters are not allowed."
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "The text is not valid Unicode: it holds a lone surrogate."
    return ""
