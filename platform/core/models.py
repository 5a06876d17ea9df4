"""What every app's rows stand on: ids, timestamps, versions, leased work, live events, the audit trail."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone


class UUIDModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class TimeStampedModel(models.Model):
    created_at = models.DateTimeField(default=timezone.now, editable=False, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True


class VersionedModel(models.Model):
    """A resource with an ETag: each change raises `version`, and a change made on an older one is refused (412)."""

    version = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        abstract = True


class WorkStatus(models.TextChoices):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LeasedWork(models.Model):
    """Long work whose row is the truth: who does it (lease), which attempt it is (epoch), how far it is (progress).

    A queue message is only a hint. A worker holds the row while `lease_until` lies in the future, renews it with every
    commit, and is fenced out by a higher `epoch`. See core.work.
    """

    status = models.CharField(max_length=10, choices=WorkStatus, default=WorkStatus.PENDING, db_index=True)
    progress = models.FloatField(default=0, help_text="0 to 1")
    message = models.CharField(max_length=500, blank=True, help_text="What is being done right now")
    error = models.TextField(blank=True, help_text="Why it failed, in a sentence for the user")
    queue = models.CharField(max_length=20, default="default", editable=False)
    lease_owner = models.CharField(max_length=120, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)
    attempts = models.PositiveSmallIntegerField(default=0, editable=False, help_text="Starts without a commit since")
    event_seq = models.PositiveBigIntegerField(default=0, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class LiveEvent(models.Model):
    """The outbox of live updates: written in the same commit as what it tells of, numbered without gaps per topic.

    topic: "<model name>:<id>", such as "processingjob:6f9…" (core.live.topic_of).
    payload: {"type": "progress" | "status" | "log" | "thumbnail", …}.
    """

    topic = models.CharField(max_length=80)
    seq = models.PositiveBigIntegerField()
    payload = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["topic", "seq"], name="live_event_seq_unique")]

    def __str__(self) -> str:
        return f"{self.topic} {self.seq}"


class AuditEvent(models.Model):
    """Who did what to which object, with what it was before and after. Append-only, written by services."""

    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    action = models.CharField(max_length=60)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=64)
    dataset_id = models.UUIDField(null=True, blank=True, db_index=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        indexes = [models.Index(fields=["object_type", "object_id", "-created_at"], name="audit_object")]
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.action} {self.object_type} {self.object_id}"


class IdempotencyKey(models.Model):
    """The answer given to a POST with an `Idempotency-Key`, to be given again to its repetition."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    method_and_path = models.CharField(max_length=500)
    request_hash = models.CharField(max_length=64)
    status_code = models.PositiveSmallIntegerField(null=True)
    body: "models.JSONField[Any, Any]" = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_unique")]

    def __str__(self) -> str:
        return self.key
