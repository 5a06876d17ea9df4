"""ETag and If-Match: the version a client read is the one it may change.

The ETag is the row's version, so it tells of edits, not of progress: it guards writes and is no cache validator.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from django.core.exceptions import ObjectDoesNotExist
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.errors import PreconditionRequiredError
from core.errors import StaleError
from core.models import VersionedModel
from core.versioning import save_versioned

__all__ = ["ETagMixin", "etag_of", "save_versioned"]


def etag_of(row: VersionedModel) -> str:
    return f'"{row.version}"'


class ETagMixin:
    """For view sets of versioned rows: sends the ETag with each single row and checks If-Match before a change.

    A change reads `self.expected_version(row)` and hands it to its service, which ends in `save_versioned`.
    `if_match_required` names the actions that refuse to work without If-Match (428). `read_serializer_class` is what
    the current body in a 412 is written with, where the action's own serializer is one for input.
    """

    if_match_required: ClassVar[AbstractSet[str]] = frozenset()
    read_serializer_class: ClassVar[Any] = None
    _row: VersionedModel | None = None

    def get_object(self) -> Any:
        self._row = super().get_object()  # type: ignore[misc]
        return self._row

    def expected_version(self, row: VersionedModel) -> int | None:
        """The version If-Match names; None if any will do. Raises StaleError and PreconditionRequiredError."""
        header = self.request.headers.get("If-Match")  # type: ignore[attr-defined]
        if header is None:
            if self.action in self.if_match_required:  # type: ignore[attr-defined]
                raise PreconditionRequiredError("Send the ETag of what you read as If-Match.")
            return None
        if header.strip() == "*":
            return None
        if str(row.version) not in re.findall(r'"([^"]*)"', header):
            raise StaleError("It was changed by someone else meanwhile.")
        return row.version

    def current_body(self, row: VersionedModel) -> Any:
        if self.read_serializer_class is not None:
            return self.read_serializer_class(row, context=self.get_serializer_context()).data  # type: ignore[attr-defined]
        return self.get_serializer(row).data  # type: ignore[attr-defined]

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, StaleError) and self._row is not None:
            try:
                self._row.refresh_from_db()
            except ObjectDoesNotExist:
                self._row = None
                return super().handle_exception(Http404())  # type: ignore[misc]
            exc.extensions = {"current": self.current_body(self._row)}  # type: ignore[attr-defined]
        return super().handle_exception(exc)  # type: ignore[misc]

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        if self._row is not None and "ETag" not in response.headers and response.status_code in (200, 201, 412):
            data = getattr(response, "data", None)
            version = data.get("version") if isinstance(data, dict) and response.status_code != 412 else None
            response["ETag"] = f'"{version}"' if isinstance(version, int) else etag_of(self._row)
        return response
