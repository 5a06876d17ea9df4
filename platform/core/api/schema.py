"""OpenAPI as it is served: each operation declares its problems, and the headers that guard its writes."""

import inspect
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from core.api.errors import CONTENT_TYPE
from core.api.etag import ETagMixin

PROBLEMS = {
    "400": "The request is not valid.",
    "401": "No or no valid credentials.",
    "403": "Your role or your key does not allow it.",
    "404": "There is no such thing, or it is not yours.",
    "409": "It is not in a state that allows this.",
    "412": "It was changed since you read it; `current` is what it is now.",
    "428": "If-Match is required.",
    "429": "Too many requests; see Retry-After.",
    "default": "Any other error.",
}


class ProblemFieldSerializer(serializers.Serializer[Any]):
    field = serializers.CharField()
    message = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457; `code` is stable, `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    errors = ProblemFieldSerializer(many=True, required=False)
    current = serializers.DictField(required=False, help_text="With 412: the resource as it is now")


class Schema(AutoSchema):
    def get_description(self) -> str:
        """What the action says of itself, or its own class: not what our base classes say to programmers."""
        handler = getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)
        return inspect.cleandoc(getattr(handler, "__doc__", "") or type(self.view).__dict__.get("__doc__") or "")

    def get_override_parameters(self) -> list[Any]:
        parameters = list(super().get_override_parameters())
        handler = getattr(self.view, getattr(self.view, "action", None) or self.method.lower(), None)
        if getattr(handler, "is_idempotent", False):
            parameters.append(
                OpenApiParameter(
                    "Idempotency-Key",
                    OpenApiTypes.STR,
                    OpenApiParameter.HEADER,
                    description="Repeating a request with the same key gives the same answer, and does nothing twice.",
                )
            )
        if isinstance(self.view, ETagMixin) and self.method in ("PATCH", "PUT", "DELETE"):
            required = getattr(self.view, "action", "") in self.view.if_match_required
            parameters.append(
                OpenApiParameter(
                    "If-Match",
                    OpenApiTypes.STR,
                    OpenApiParameter.HEADER,
                    required=required,
                    description="The ETag of what you read.",
                )
            )
        return parameters

    def _get_response_bodies(self, direction: str = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        problem = self.resolve_serializer(ProblemSerializer, "response").ref
        for code, description in PROBLEMS.items():
            body = {"description": description, "content": {CONTENT_TYPE: {"schema": problem}}}
            component = ResolvedComponent(f"Problem{code.title()}", ResolvedComponent.RESPONSE, body, description)
            self.registry.register_on_missing(component)
            bodies.setdefault(code, component.ref)
        return bodies
