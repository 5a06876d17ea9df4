"""What a request can get wrong: one sentence for the person, a stable code for the program."""

from typing import ClassVar


class ApplicationError(Exception):
    """Base of the errors services raise on purpose; becomes problem+json or a message on the page.

    `errors` maps field names to sentences where particular fields are to blame.
    """

    code: ClassVar[str] = "invalid"
    status: ClassVar[int] = 400

    def __init__(self, detail: str, errors: dict[str, list[str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or {}


class FieldError(ApplicationError):
    """One field is wrong."""

    code = "invalid_field"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}", {field: [detail]})


class NotFoundError(ApplicationError):
    code = "not_found"
    status = 404


class ForbiddenError(ApplicationError):
    code = "forbidden"
    status = 403


class ConflictError(ApplicationError):
    code = "conflict"
    status = 409


class StaleError(ApplicationError):
    """The resource changed since the caller read it (If-Match)."""

    code = "stale"
    status = 412
