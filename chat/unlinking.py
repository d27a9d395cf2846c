"""What ties an account to its pseudonym besides the alias: by a token's hash, by a name, by one and the same moment."""

from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session as SignIn
from django.db.models import Q
from knox.models import AuthToken

from audit.actors import source_named
from chat.tokens import tokens_revoke

OBJECT_REPR_CHARS = 200
DIGEST_CHARS = 128


def account_unlink(*, user_id: int, source: str) -> None:
    """In the transaction of an erasure, before the alias goes: what is recorded of it is recorded under the old
    pseudonym."""
    # A token or a sign-in that is being made comes before, and is seen here, or after, under the new pseudonym.
    user = User.objects.select_for_update().get(pk=user_id)
    with source_named(source):
        tokens_revoke(user=user, source=source)
        _sign_ins_delete(user_id)
        _log_delete(user)
        # They are the moments of `login.succeeded` and `user.created`.
        day = user.date_joined.replace(hour=0, minute=0, second=0, microsecond=0)
        User.objects.filter(pk=user_id).update(last_login=None, date_joined=day)


def _sign_ins_delete(user_id: int) -> None:
    store = SessionStore()
    rows = SignIn.objects.values_list("session_key", "session_data").iterator(chunk_size=500)
    mine = [key for key, data in rows if _user_of(store.decode(data)) == str(user_id)]
    for start in range(0, len(mine), 500):
        SignIn.objects.filter(pk__in=mine[start : start + 500]).delete()


def _user_of(data: dict[str, Any]) -> str:
    return str(data.get(SESSION_KEY, ""))


def _log_delete(user: User) -> None:
    """The admin's own log of what the account did, and of what was done to it or its tokens; the trail has both."""
    types = ContentType.objects.get_for_models(User, AuthToken)
    # `digest : name`, cut off.
    named = f" : {user.get_username()}"[: OBJECT_REPR_CHARS - DIGEST_CHARS]
    LogEntry.objects.filter(
        Q(user_id=user.pk)
        | Q(content_type=types[User], object_id=str(user.pk))
        | Q(content_type=types[AuthToken], object_repr__endswith=named)
    ).delete()
