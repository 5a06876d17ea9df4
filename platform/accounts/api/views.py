"""The API of accounts: who am I, and my keys."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import selectors, services
from accounts.api.serializers import ApiKeySerializer, NewApiKeySerializer, UserSerializer
from accounts.models import ApiKey, User
from core.api.views import ANYONE, ApiView, ApiViewSet
from core.errors import ForbiddenError


class SessionRequiredError(ForbiddenError):
    code = "session_required"


class MeView(ApiView):
    """The account that is asking."""

    role_required: ClassVar[dict[str, Any]] = {"patch": ANYONE}

    @extend_schema(responses=UserSerializer)
    def get(self, request: Request) -> Response:
        return Response(UserSerializer(request.user).data)

    @extend_schema(request=UserSerializer, responses=UserSerializer)
    def patch(self, request: Request) -> Response:
        user = User.objects.get(pk=request.user.pk)
        serializer = UserSerializer(user, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        user = services.update_profile(user=user, name=serializer.validated_data.get("name", user.name))
        return Response(UserSerializer(user).data)


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, ApiViewSet):
    """The keys with which programs act for the account. A key cannot make or revoke keys: that takes a session."""

    queryset = ApiKey.objects.none()
    serializer_class = ApiKeySerializer
    role_required: ClassVar[dict[str, Any]] = {"create": ANYONE, "destroy": ANYONE}

    def get_queryset(self) -> QuerySet[ApiKey]:
        if getattr(self, "swagger_fake_view", False):
            return ApiKey.objects.none()
        return selectors.api_keys(self.request.user)

    @extend_schema(responses={201: NewApiKeySerializer})
    def create(self, request: Request) -> Response:
        self._refuse_keys(request)
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        key, text = services.create_api_key(user=request.user, **serializer.validated_data)
        response = Response(NewApiKeySerializer(key, context={"key": text}).data, status=201)
        response["Cache-Control"] = "no-store"
        return response

    @extend_schema(description="Revoke a key. It stays in the list.")
    def destroy(self, request: Request, pk: str) -> Response:
        self._refuse_keys(request)
        services.revoke_api_key(key=self.get_object(), actor=request.user)
        return Response(status=204)

    def _refuse_keys(self, request: Request) -> None:
        if isinstance(request.auth, ApiKey):
            raise SessionRequiredError("API keys are made and revoked in the browser, not with an API key.")
