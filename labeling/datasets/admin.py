"""Datasets in the administration: looked at and put into the trash; rights and paths cannot be changed here."""

from django.contrib import admin

from core.admin import ReadOnlyAdmin, StaffModelAdmin
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership, Operation, Upload


@admin.register(Dataset)
class DatasetAdmin(StaffModelAdmin):
    list_display = ("name", "created_by", "created_at", "deleted_at")
    search_fields = ("name", "id__exact")
    editable_fields = ("name", "description")
    ordering = ("-created_at", "id")


@admin.register(Membership)
class MembershipAdmin(StaffModelAdmin):
    open_to_staff = False  # who can make members can make themselves one
    editable_fields = ("role",)
    addable = True
    deletable = True
    list_display = ("dataset", "user", "role", "created_at")
    search_fields = ("user__email__exact",)


@admin.register(LabelClass)
class LabelClassAdmin(StaffModelAdmin):
    editable_fields = ("color", "shortcut", "text_prompt", "height_m", "width_m", "length_m", "attributes")
    list_display = ("name", "number", "color", "dataset")
    search_fields = ("name__istartswith",)


@admin.register(Calibration)
class CalibrationAdmin(ReadOnlyAdmin):
    list_display = ("serial", "format", "source", "baseline_m", "dataset", "created_at")
    search_fields = ("serial__exact", "sha256__exact")


@admin.register(DatasetFile)
class DatasetFileAdmin(ReadOnlyAdmin):
    list_display = ("name", "kind", "status", "frame_count", "camera_serial", "metric", "dataset")
    search_fields = ("name__istartswith", "sha256__exact", "camera_serial__exact")
    list_filter = ("status",)


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ("kind", "dataset", "status", "cursor", "total", "created_by", "created_at")
    list_filter = ("kind", "status")


@admin.register(Upload)
class UploadAdmin(ReadOnlyAdmin):
    list_display = ("filename", "dataset", "user", "offset", "length", "created_at", "finished_at")
    search_fields = ("filename__istartswith",)
