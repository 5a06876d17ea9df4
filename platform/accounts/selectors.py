"""What is read of accounts."""

from django.db.models import QuerySet

from accounts.models import ApiKey, User


def api_keys(user: User) -> QuerySet[ApiKey]:
    """The user's own keys, the newest first, also those revoked."""
    return ApiKey.objects.filter(user=user)
