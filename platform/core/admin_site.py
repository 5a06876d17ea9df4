"""Django admin in which nobody can raise their own rights.

Whoever is staff keeps the rows in order for which they have permissions; accounts, groups, memberships, keys, and all
that comes with third-party apps (a queue's schedule is a function to be called) belong to superusers alone. A model
admin opens itself to staff by deriving from core.admin.StaffModelAdmin.
"""

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse

from core.throttling import SIGN_INS, is_too_often, too_often


class SuperuserOnly:
    """Mixed into every model admin that is not open to staff."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_view_permission(request, obj)  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser and super().has_add_permission(request)  # type: ignore[misc]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_change_permission(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser and super().has_delete_permission(request, obj)  # type: ignore[misc]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser and super().has_module_permission(request)  # type: ignore[misc]


class FoveaAdminSite(AdminSite):
    site_header = "Fovea administration"
    site_title = "Fovea"
    index_title = "Everything that is kept"
    site_url = "/"

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST" and is_too_often(request, "sign-in", *SIGN_INS):
            return too_often(request, SIGN_INS[1])
        return super().login(request, extra_context)

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        admin_class = admin_class or ModelAdmin
        if not getattr(admin_class, "open_to_staff", False):
            admin_class = type(
                admin_class.__name__, (SuperuserOnly, admin_class), {"__module__": admin_class.__module__}
            )
        super().register(model_or_iterable, admin_class, **options)


class FoveaAdminConfig(AdminConfig):
    default_site = "core.admin_site.FoveaAdminSite"
