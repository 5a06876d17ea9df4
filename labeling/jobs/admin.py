"""Jobs and what they found in Django admin: to look at. Work is steered through its services, not by editing rows."""

from django.contrib import admin

from core.admin import ReadOnlyAdmin, StaffModelAdmin
from labeling.jobs.models import Detection, DetectionMask, Frame, LogLine, ProcessingJob, Sequence, StageRun, Track


@admin.register(ProcessingJob)
class ProcessingJobAdmin(StaffModelAdmin):
    editable_fields = ("name",)
    list_display = ("name", "dataset", "status", "progress", "current_stage", "created_by", "created_at", "deleted_at")
    search_fields = ("id__exact", "name")
    ordering = ("-created_at",)


@admin.register(Sequence)
class SequenceAdmin(ReadOnlyAdmin):
    list_display = ("name", "job", "position", "metric")
    search_fields = ("id__exact", "job__id__exact")


@admin.register(StageRun)
class StageRunAdmin(ReadOnlyAdmin):
    list_display = ("stage", "sequence", "status", "cursor", "total", "bad_frames", "elapsed_s")
    search_fields = ("sequence__id__exact",)


@admin.register(Frame)
class FrameAdmin(ReadOnlyAdmin):
    list_display = ("id", "sequence", "number", "timestamp_ns", "motion_score")
    search_fields = ("id__exact", "sequence__id__exact")


@admin.register(Track)
class TrackAdmin(ReadOnlyAdmin):
    list_display = ("id", "number", "sequence", "label_class", "first_number", "last_number", "detection_count")
    search_fields = ("sequence__id__exact",)


@admin.register(Detection)
class DetectionAdmin(ReadOnlyAdmin):
    list_display = ("id", "frame", "label_class", "confidence", "source", "version")
    search_fields = ("id__exact", "frame__id__exact")


@admin.register(DetectionMask)
class DetectionMaskAdmin(ReadOnlyAdmin):
    list_display = ("detection_id", "left", "top", "width", "height")
    search_fields = ("detection__id__exact",)
    list_select_related = ()


@admin.register(LogLine)
class LogLineAdmin(ReadOnlyAdmin):
    list_display = ("id", "job", "level", "text", "created_at")
    search_fields = ("job__id__exact",)
