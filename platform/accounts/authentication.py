"""API keys as credentials: `Authorization: Bearer fov_<prefix>_<secret>` (or `Token …`)."""

import hashlib
import re
import secrets
from datetime import timedelta

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts.models import ApiKey, User
from core.errors import ForbiddenError

KEY = re.compile(r"^fov_([a-z0-9]{1,12})_([A-Za-z0-9_-]{20,100})$")
LAST_USED_EVERY = timedelta(minutes=1)


class ReadOnlyKeyError(ForbiddenError):
    code = "read_only_key"


def digest_of(secret: str) -> str:
    """SHA-256: the secret has 256 random bits, so nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_read_only(request: Request) -> bool:
    """Whether the request came with a key that may change nothing: not even what a read would do on the side."""
    return isinstance(request.auth, ApiKey) and request.auth.access == ApiKey.Access.READ


class ApiKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        """(user, key); None without such a header. Raises AuthenticationFailed (401) and ReadOnlyKeyError (403)."""
        scheme, _, credentials = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() not in ("token", "bearer"):
            return None
        match = KEY.match(credentials.strip())
        if match is None:
            raise AuthenticationFailed("This is no API key: they look like fov_prefix_secret.")
        prefix, secret = match.groups()
        key = ApiKey.objects.select_related("user").filter(prefix=prefix).first()
        now = timezone.now()
        # Compared in constant time, also where the prefix is unknown; all failures are told in the same words.
        genuine = secrets.compare_digest(key.digest if key else digest_of(""), digest_of(secret))
        if key is None or not genuine or not key.user.is_active:
            raise AuthenticationFailed("The API key is not valid.")
        if not key.is_usable(now):
            raise AuthenticationFailed("The API key was revoked." if key.revoked_at else "The API key has expired.")
        if key.access == ApiKey.Access.READ and request.method not in SAFE_METHODS:
            raise ReadOnlyKeyError("This API key is read-only.")
        if key.last_used_at is None or key.last_used_at < now - LAST_USED_EVERY:
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="fovea"'
