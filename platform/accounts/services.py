"""What is done to accounts: keys made and revoked, profiles changed, the first administrator."""

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts.authentication import digest_of
from accounts.models import ApiKey, User
from core import audit
from core.errors import ConflictError, FieldError
from core.models import AuditEvent

MAX_KEYS = 50
RESETS_PER_HOUR = 3
RESET_ASKED = "password_reset.asked"
PREFIX_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@transaction.atomic
def create_api_key(
    *, user: User, name: str, access: str = ApiKey.Access.READ, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key and its text, which is nowhere kept. Raises FieldError and ConflictError."""
    if not name.strip():
        raise FieldError("name", "Give the key a name.")
    if access not in ApiKey.Access.values:
        raise FieldError("access", "It must be read or write.")
    if expires_at is not None and expires_at <= timezone.now():
        raise FieldError("expires_at", "It must lie in the future.")
    if user.api_keys.filter(revoked_at=None).count() >= MAX_KEYS:
        raise ConflictError(f"You have {MAX_KEYS} keys; revoke one first.")
    secret = secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        user=user,
        name=name.strip(),
        prefix="".join(secrets.choice(PREFIX_ALPHABET) for _ in range(8)),
        digest=digest_of(secret),
        access=access,
        expires_at=expires_at,
    )
    audit.record(user, "api_key.created", key, after={"name": key.name, "access": key.access, "expires_at": expires_at})
    return key, f"fov_{key.prefix}_{secret}"


@transaction.atomic
def revoke_api_key(*, key: ApiKey, actor: User) -> ApiKey:
    """From now on the key opens nothing. Revoking it again changes nothing."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record(actor, "api_key.revoked", key, before={"name": key.name})
    key.refresh_from_db()
    return key


@transaction.atomic
def update_profile(*, user: User, name: str) -> User:
    before = User.objects.values_list("name", flat=True).get(pk=user.pk)
    user.name = name.strip()
    user.clean_fields(exclude={field.name for field in User._meta.fields} - {"name"})
    if user.name != before:
        user.save(update_fields=["name"])
        audit.record(user, "user.updated", user, before={"name": before}, after={"name": user.name})
    return user


@transaction.atomic
def may_reset_password(*, user: User) -> bool:
    """Note that someone asked for a link to set a new password; False if it was asked for too often lately.

    The link is then not sent, and whoever asked is told nothing: neither who has an account nor how often.
    """
    User.objects.select_for_update().get(pk=user.pk)
    asked = AuditEvent.objects.filter(
        object_type=user._meta.label_lower,
        object_id=str(user.pk),
        action=RESET_ASKED,
        created_at__gt=timezone.now() - timedelta(hours=1),
    )
    if asked.count() >= RESETS_PER_HOUR:
        return False
    audit.record(None, RESET_ASKED, user)
    return True


@transaction.atomic
def ensure_admin(*, email: str, password: str) -> tuple[User, bool]:
    """The administrator with this address, and whether it had to be made. An existing account is left as it is.

    Raises FieldError if the account exists without an administrator's rights, and ValidationError for a weak password.
    """
    user = User.objects.filter(email=email.strip().lower()).first()
    if user is not None:
        if not (user.is_superuser and user.is_active):
            raise FieldError("email", f"{user.email} exists and is no active administrator.")
        return user, False
    candidate = User(email=email.strip().lower())
    candidate.clean_fields(exclude=["password"])
    validate_password(password, candidate)
    user = User.objects.create_superuser(candidate.email, password)
    audit.record(None, "user.created", user, after={"email": user.email, "is_superuser": True})
    return user, True


def sign_in_name(request: HttpRequest | None, credentials: dict[str, Any] | None = None) -> str | None:
    """What sign-in attempts are counted under: one address is one address, however it is typed."""
    given = (credentials or {}).get("username") or (request.POST.get("username") if request is not None else None)
    return given.strip().lower() if given else None
