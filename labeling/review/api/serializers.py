"""Frames, detections and statistics as JSON."""

from typing import Any

from rest_framework import serializers

from labeling.review.filters import MAX_EXCLUSIONS


class AnnotationFilterSerializer(serializers.Serializer[Any]):
    excluded_class_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0), required=False, max_length=10_000
    )
    excluded_annotation_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=2**63 - 1), required=False, max_length=MAX_EXCLUSIONS
    )
    excluded_frame_ids = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=MAX_EXCLUSIONS)
    min_confidence = serializers.FloatField(min_value=0, max_value=1, required=False)
