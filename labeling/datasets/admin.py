"""Datasets in Django admin. Who is a member of what is a right, so memberships are for superusers alone."""

from django.contrib import admin

from core.admin import ReadOnlyAdmin, StaffModelAdmin
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership, Operation, Upload


@admin.register(Dataset)
class DatasetAdmin(StaffModelAdmin):
    editable_fields = ("name", "description")
    list_display = ("name", "created_by", "created_at", "deleted_at")
    search_fields = ("id__exact", "name")
    ordering = ("-created_at",)


@admin.register(Membership)
class MembershipAdmin(StaffModelAdmin):
    open_to_staff = False
    editable_fields = ("dataset", "user", "role")
    addable = deletable = True
    list_display = ("dataset", "user", "role", "created_at")
    search_fields = ("user__email__exact", "dataset__id__exact")


@admin.register(LabelClass)
class LabelClassAdmin(StaffModelAdmin):
    editable_fields = ("name", "color", "shortcut", "text_prompt", "height_m", "width_m", "length_m", "attributes")
    addable = True
    list_display = ("name", "number", "dataset", "color", "text_prompt")
    search_fields = ("name",)


@admin.register(Calibration)
class CalibrationAdmin(ReadOnlyAdmin):
    list_display = ("serial", "dataset", "format", "source", "created_at")
    search_fields = ("serial__exact",)
    ordering = ("-created_at",)


@admin.register(DatasetFile)
class DatasetFileAdmin(ReadOnlyAdmin):
    list_display = ("name", "dataset", "kind", "status", "frame_count", "camera_serial", "created_at")
    search_fields = ("id__exact", "sha256__exact")
    ordering = ("-created_at",)


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "dataset", "status", "progress", "created_at")
    search_fields = ("id__exact",)
    ordering = ("-created_at",)


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    list_display = ("filename", "dataset", "user", "offset", "length", "finished_at")
    search_fields = ("id__exact",)
    ordering = ("-created_at",)
