"""The account pages: signing in and out, passwords, the profile with its API keys."""

import uuid
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.messages.views import SuccessMessageMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import selectors, services
from accounts.forms import ApiKeyForm, PasswordResetForm, ProfileForm
from core.errors import ApplicationError
from core.throttling import SIGN_INS, is_too_often, too_often

RESETS: Final = (10, 3600)
"""Requests for a new password from one address, in how many seconds; each account has its own limit besides."""


class SignIn(auth_views.LoginView):
    """One address and account is locked out by django-axes; here an address is kept from trying many accounts."""

    template_name = "accounts/sign_in.html"
    redirect_authenticated_user = True

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_too_often(request, "sign-in", *SIGN_INS):
            return too_often(request, SIGN_INS[1])
        return super().post(request, *args, **kwargs)


class SignOut(auth_views.LogoutView):
    http_method_names = ["post", "options"]


class PasswordChange(SuccessMessageMixin, auth_views.PasswordChangeView):
    template_name = "accounts/password_change.html"
    success_url = reverse_lazy("accounts:profile")
    success_message = "Your password was changed. Other devices have been signed out."


class PasswordReset(auth_views.PasswordResetView):
    form_class = PasswordResetForm
    template_name = "accounts/password_reset.html"
    email_template_name = "accounts/password_reset_email.txt"
    subject_template_name = "accounts/password_reset_subject.txt"
    success_url = reverse_lazy("accounts:password-reset-sent")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_too_often(request, "password-reset", *RESETS):
            return too_often(request, RESETS[1])
        return super().post(request, *args, **kwargs)


class PasswordResetSent(auth_views.PasswordResetDoneView):
    template_name = "accounts/password_reset_sent.html"


class PasswordResetConfirm(SuccessMessageMixin, auth_views.PasswordResetConfirmView):
    template_name = "accounts/password_reset_confirm.html"
    success_url = reverse_lazy("accounts:sign-in")
    success_message = "Your password was changed. Sign in with it."


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    form = ProfileForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        services.update_profile(user=request.user, name=form.cleaned_data["name"])
        messages.success(request, "Your profile was saved.")
        return redirect("accounts:profile")
    return _profile(request, form=form)


@never_cache
@login_required
@require_POST
def create_api_key(request: HttpRequest) -> HttpResponse:
    """Answers with the page itself, not a redirect: the key's text is on this one answer and nowhere else."""
    form = ApiKeyForm(request.POST)
    text = ""
    if form.is_valid():
        try:
            _, text = services.create_api_key(user=request.user, **form.cleaned_data)
        except ApplicationError as error:
            form.add_error(None, error.detail)
    if not text:
        return _profile(request, key_form=form, status=400)
    return _profile(request, key_text=text)


@login_required
@require_POST
def revoke_api_key(request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
    key = get_object_or_404(selectors.api_keys(request.user), pk=key_id)
    services.revoke_api_key(key=key, actor=request.user)
    messages.success(request, f"The key “{key.name}” was revoked.")
    return redirect("accounts:profile")


def _profile(
    request: HttpRequest,
    *,
    form: ProfileForm | None = None,
    key_form: ApiKeyForm | None = None,
    key_text: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "form": form or ProfileForm(instance=request.user),
        "key_form": key_form or ApiKeyForm(),
        "keys": selectors.api_keys(request.user),
        "key_text": key_text,
    }
    return render(request, "accounts/profile.html", context, status=status)
