from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework import authentication
from rest_framework.request import Request

from onesource.errors import NotAuthenticated

DEVELOPER = "developer"


class TokenAuthentication(KnoxTokenAuthentication):
    """Bearer tokens, looked up by their hash in one query.

    knox's own lookup fails on bytes that are not UTF-8 and deletes expired tokens while it reads.
    """

    def authenticate_credentials(self, token: bytes) -> tuple[Any, AuthToken]:
        try:
            digest = hash_token(token.decode("ascii"))
        except (UnicodeDecodeError, TypeError, ValueError):
            raise _refused() from None
        row = AuthToken.objects.select_related("user").filter(digest=digest).first()
        if row is None or not row.user.is_active or (row.expiry and row.expiry <= timezone.now()):
            raise _refused()
        return row.user, row


def _refused() -> NotAuthenticated:
    return NotAuthenticated(
        "The token is unknown, expired or revoked. Ask an operator for a new one.", code="invalid_token"
    )


class SessionAuthentication(authentication.SessionAuthentication):
    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class DevelopmentAuthentication(authentication.BaseAuthentication):
    """On a developer's own machine a caller without credentials is the user `developer`; never in production."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        if not settings.ANONYMOUS_CHAT:
            return None
        user, created = get_user_model().objects.get_or_create(username=DEVELOPER)
        if created:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        return user, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
