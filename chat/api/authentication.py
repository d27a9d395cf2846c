from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils import timezone
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from audit.services import identifier_hash
from chat.refusals import refusal_record
from chat.tokens import token_ref
from onesource.errors import NotAuthenticated

DEVELOPER = "developer"


class TokenAuthentication(KnoxTokenAuthentication):
    """Bearer tokens, looked up by their hash in one query. Every refusal goes on record, within bounds.

    knox's own lookup fails on bytes that are not UTF-8 and deletes expired tokens while it reads.
    """

    def authenticate(self, request: Request) -> tuple[Any, AuthToken] | None:
        try:
            authenticated: tuple[Any, AuthToken] | None = super().authenticate(request)  # type: ignore[no-untyped-call]
        except exceptions.AuthenticationFailed:
            # knox's own: no token, or more than one.
            sent = authentication.get_authorization_header(request)
            refusal_record(cause="malformed", token=identifier_hash("token", sent))
            raise
        return authenticated

    def authenticate_credentials(self, token: bytes) -> tuple[Any, AuthToken]:
        try:
            digest = hash_token(token.decode("ascii"))
        except (UnicodeDecodeError, TypeError, ValueError):
            raise _refused("malformed", identifier_hash("token", token)) from None
        row = AuthToken.objects.select_related("user").filter(digest=digest).first()
        if row is None:
            raise _refused("unknown", token_ref(digest))
        if not row.user.is_active:
            raise _refused("inactive", token_ref(digest), row.user_id)
        if row.expiry and row.expiry <= timezone.now():
            raise _refused("expired", token_ref(digest), row.user_id)
        return row.user, row


def _refused(cause: str, token: str, user_id: int | None = None) -> NotAuthenticated:
    """The answer, on record; which does not tell the caller the cause."""
    refusal_record(cause=cause, token=token, user_id=user_id)
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
