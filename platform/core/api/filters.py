"""Ordering by whitelist: `?ordering=-created_at,name`, only over a view's `ordering_fields`."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request
from rest_framework.views import APIView


class Ordering(OrderingFilter):
    """Refuses fields that are not listed, and ends with the primary key so that pages never overlap."""

    def get_valid_fields(
        self, queryset: QuerySet[Any], view: APIView, context: dict[str, Any] | None = None
    ) -> list[tuple[str, str]]:
        return [(name, name) for name in getattr(view, "ordering_fields", None) or ()]

    def remove_invalid_fields(
        self, queryset: QuerySet[Any], fields: list[str], view: APIView, request: Request
    ) -> list[str]:
        allowed = [name for name, _ in self.get_valid_fields(queryset, view)]
        for field in fields:
            if field.removeprefix("-") not in allowed:
                choices = ", ".join(allowed) or "nothing"
                raise ValidationError({"ordering": [f"Cannot order by {field}; allowed: {choices}."]})
        return [*fields, "pk"] if fields and "pk" not in fields else fields

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return super().get_schema_operation_parameters(view) if getattr(view, "ordering_fields", None) else []
