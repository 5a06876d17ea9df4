"""Pages for short lists, cursors for long ones; both with a hard maximum."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from rest_framework import pagination
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.views import APIView


class PagePagination(pagination.PageNumberPagination):
    """`?page=2&page_size=50` → {count, next, previous, results}."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class CursorPagination(pagination.CursorPagination):
    """`?cursor=…&page_size=100` → {next, previous, results}: as fast on the last page as on the first.

    Views whose rows are not ordered by id set `cursor_ordering`, whose last field must be unique.
    """

    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000
    ordering: Any = "id"

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: APIView) -> tuple[str, ...]:
        ordering = getattr(view, "cursor_ordering", self.ordering)
        return (ordering,) if isinstance(ordering, str) else tuple(ordering)

    def paginate_queryset(
        self, queryset: QuerySet[Any], request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError) as error:
            raise NotFound("Invalid cursor.") from error
