"""Forms of the account pages."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordResetForm as DjangoPasswordResetForm
from django.utils import timezone

from accounts import services
from accounts.models import ApiKey, User


class PasswordResetForm(DjangoPasswordResetForm):
    def get_users(self, email: str) -> Iterator[User]:
        return (user for user in super().get_users(email) if services.may_reset_password(user=user))


class ProfileForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["name"]


class ApiKeyForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What will use it, such as “nightly export”.")
    access = forms.ChoiceField(choices=ApiKey.Access.choices, initial=ApiKey.Access.READ)
    days = forms.TypedChoiceField(
        label="Expires",
        choices=[("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year"), ("", "never")],
        initial="90",
        required=False,
        coerce=int,
        empty_value=None,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # It shares its page with the profile's form, which has a name too.
        super().__init__(*args, **{"auto_id": "id_key_%s", **kwargs})

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        days = cleaned.pop("days", None)
        cleaned["expires_at"] = timezone.now() + timedelta(days=days) if days else None
        return cleaned
