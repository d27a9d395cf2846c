"""API tokens: made, changed and gone on record, from wherever: commands, the admin, a deleted user's cascade."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import post_save, pre_delete, pre_save
from django.dispatch import receiver
from knox.models import AuthToken

from audit import actions
from audit.accounts import saved_atomically, state_changes, state_remember
from audit.actors import actor_current, source_named
from audit.selectors import subject_ref_held
from audit.services import event_record, identifier_hash, subject_ref_of

saved_atomically(AuthToken)


def token_create(*, user: Any, lifetime: timedelta | None, source: str) -> str:
    """A new token in plain text, which is not held anywhere: only its SHA-512 is."""
    with source_named(source):
        _, token = AuthToken.objects.create(  # type: ignore[no-untyped-call]
            user, expiry=lifetime or timedelta(days=settings.TOKEN_DAYS)
        )
    return str(token)


def tokens_revoke(*, user: Any, source: str) -> int:
    with transaction.atomic(), source_named(source):
        count, _ = AuthToken.objects.filter(user=user).delete()
    return count


def token_ref(digest: str) -> str:
    """What records call a token: the same for its making, its refusals and its end, and of no use to sign in."""
    return identifier_hash("token", digest.encode())


@receiver(pre_save, sender=AuthToken)
def token_remember(
    sender: Any, instance: AuthToken, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    state_remember(instance, raw=raw, update_fields=update_fields)


@receiver(post_save, sender=AuthToken)
def token_record(sender: Any, instance: AuthToken, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    facts = {"for_ref": subject_ref_of(instance.user), "expires": _expires(instance)}
    if created:
        _record(actions.TOKEN_CREATED, instance, **facts)
    elif changes := state_changes(instance):
        _record(actions.TOKEN_CHANGED, instance, fields=sorted(changes), **facts)


@receiver(pre_delete, sender=AuthToken)
def token_deletion_record(sender: Any, instance: AuthToken, **kwargs: Any) -> None:
    # Before: with a deleted user its pseudonym goes too.
    _record(actions.TOKEN_REVOKED, instance, for_ref=subject_ref_held(instance.user_id))


def _record(kind: str, token: AuthToken, **facts: Any) -> None:
    actor = actor_current()
    event_record(
        kind=kind,
        stream="auth",
        actor_ref=actor.ref,
        facts={**facts, "token": token_ref(token.digest), "source": actor.source},
    )


def _expires(token: AuthToken) -> str | None:
    return token.expiry.isoformat() if token.expiry else None
