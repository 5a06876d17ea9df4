"""The base of every API view: what is not yours does not exist (404), what is above your role is refused (403)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import Http404
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from core.api.parsing import complaint_about
from core.errors import ForbiddenError

ANYONE = None
"""In `role_required`: every signed-in user, no membership needed."""
PARENTS = ("dataset", "job", "sequence", "frame", "detection")


class AccessMixin:
    """`role_required` says, for each action (or method, in a plain view), the role needed in the object's dataset.

    Reads need the least role unless stated. An action that writes must be stated: a forgotten one is refused, and
    fails the matrix test. Roles are members of accounts.models.Role, or ANYONE.
    """

    role_required: ClassVar[Mapping[str, Any]] = {}

    @property
    def action_name(self) -> str:
        return getattr(self, "action", None) or self.request.method.lower()  # type: ignore[attr-defined]

    @property
    def needed_role(self) -> Any:
        name = self.action_name
        if name in self.role_required:
            return self.role_required[name]
        if self.request.method in SAFE_METHODS:  # type: ignore[attr-defined]
            return ANYONE
        raise ImproperlyConfigured(f"{type(self).__name__}.role_required says nothing of {name}")

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        _refuse_unstorable(request, kwargs)
        if hasattr(self, self.action_name):  # else it is about to be a 405
            _ = self.needed_role

    def check_role(self, row: Model, role: Any = ...) -> None:
        """Raise ForbiddenError unless the user has `role` (default: what the action needs) in the dataset of `row`."""
        role = self.needed_role if role is ... else role
        if role is ANYONE:
            return
        keeper = _keeper(row)
        user = self.request.user  # type: ignore[attr-defined]
        if not type(keeper)._default_manager.for_user(user, role).filter(pk=keeper.pk).exists():  # type: ignore[attr-defined]
            raise ForbiddenError(f"This needs the role {role} in the dataset.")


class ApiView(AccessMixin, APIView):
    """For what is no collection of rows. Look rows up with get_scoped, which answers 404 and 403."""

    def get_scoped(self, rows: Any, **lookup: Any) -> Any:
        """The one row of `rows` (already scoped to the user) that fits; checks the role this method needs."""
        return get_scoped(self, rows, **lookup)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        return _private(super().finalize_response(request, response, *args, **kwargs))


class ApiViewSet(AccessMixin, GenericViewSet[Any]):
    """A view set whose get_queryset() is scoped to the user; get_object() then checks the role of the action."""

    def get_queryset(self) -> Any:
        """Rows the user may see. Models without `for_user` need their own."""
        if self.queryset is None:
            raise ImproperlyConfigured(f"{type(self).__name__} has neither queryset nor get_queryset()")
        if getattr(self, "swagger_fake_view", False):
            return self.queryset.none()
        return self.queryset.all().for_user(self.request.user)

    def get_object(self) -> Any:
        row = super().get_object()
        self.check_role(row)
        return row

    def get_scoped(self, rows: Any, **lookup: Any) -> Any:
        """For parents in the address: the one row of `rows` (already scoped) that fits; checks the action's role."""
        return get_scoped(self, rows, **lookup)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        return _private(super().finalize_response(request, response, *args, **kwargs))


def get_scoped(view: AccessMixin, rows: Any, **lookup: Any) -> Any:
    try:
        row = rows.get(**lookup)
    except (rows.model.DoesNotExist, ValueError, TypeError) as error:
        raise Http404 from error
    view.check_role(row)
    return row


def _keeper(row: Model) -> Model:
    """The nearest of `row`, its job, its dataset and so on that knows who may do what with it."""
    seen = row
    for _ in range(4):
        if hasattr(type(seen)._default_manager.all(), "for_user"):
            return seen
        parent = next((name for name in PARENTS if hasattr(seen, name)), "")
        if not parent:
            break
        seen = getattr(seen, parent)
    raise ImproperlyConfigured(f"{type(row).__name__} leads to no row with for_user()")


def _refuse_unstorable(request: Request, kwargs: Mapping[str, Any]) -> None:
    """NUL in an address or a filter reaches PostgreSQL as an error of ours; it is one of the caller's."""
    given = [*kwargs.items(), *((name, value) for name, values in request.query_params.lists() for value in values)]
    for name, value in given:
        if isinstance(value, str) and (complaint := complaint_about(value)):
            raise ValidationError({str(name).replace("\x00", "\\0"): [complaint]})


def _private(response: Response) -> Response:
    """Answers are for this user only; views that serve immutable bytes have set their own."""
    if "Cache-Control" not in response.headers:
        response["Cache-Control"] = "private, no-cache"
    response.headers.setdefault("Vary", "Authorization, Cookie")
    return response
