"""Accounts as JSON."""

from typing import Any

from rest_framework import serializers

from accounts.models import ApiKey, User


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "email", "name", "is_staff", "date_joined"]
        read_only_fields = ["id", "email", "is_staff", "date_joined"]


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    state = serializers.ChoiceField(choices=["active", "expired", "revoked"], read_only=True)

    class Meta:
        model = ApiKey
        fields = ["id", "name", "prefix", "access", "state", "expires_at", "last_used_at", "revoked_at", "created_at"]
        read_only_fields = ["id", "prefix", "last_used_at", "revoked_at", "created_at"]


class NewApiKeySerializer(ApiKeySerializer):
    """The one answer that holds the key's text."""

    key = serializers.SerializerMethodField(help_text="Shown this once: Authorization: Bearer <key>")

    class Meta(ApiKeySerializer.Meta):
        fields = [*ApiKeySerializer.Meta.fields, "key"]

    def get_key(self, row: ApiKey) -> str:
        text: Any = self.context["key"]
        return str(text)
