from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("sign-in", views.SignIn.as_view(), name="sign-in"),
    path("sign-out", views.SignOut.as_view(), name="sign-out"),
    path("password", views.PasswordChange.as_view(), name="password-change"),
    path("password-reset", views.PasswordReset.as_view(), name="password-reset"),
    path("password-reset/sent", views.PasswordResetSent.as_view(), name="password-reset-sent"),
    path("password-reset/<uidb64>/<token>", views.PasswordResetConfirm.as_view(), name="password-reset-confirm"),
    path("profile", views.profile, name="profile"),
    path("api-keys", views.create_api_key, name="create-api-key"),
    path("api-keys/<uuid:key_id>/revoke", views.revoke_api_key, name="revoke-api-key"),
]
