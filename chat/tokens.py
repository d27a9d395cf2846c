from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from knox.models import AuthToken

from audit import actions
from audit.services import event_record, subject_ref_of


def token_create(*, user: Any, lifetime: timedelta | None, source: str) -> str:
    """A new token in plain text, which is not held anywhere: only its SHA-512 is."""
    with transaction.atomic():
        row, token = AuthToken.objects.create(  # type: ignore[no-untyped-call]
            user, expiry=lifetime or timedelta(days=settings.TOKEN_DAYS)
        )
        event_record(
            kind=actions.TOKEN_CREATED,
            stream="auth",
            actor_ref="",
            facts={"expires": row.expiry.isoformat(), "for_ref": subject_ref_of(user), "source": source},
        )
    return str(token)


def tokens_revoke(*, user: Any, source: str) -> int:
    with transaction.atomic():
        count, _ = AuthToken.objects.filter(user=user).delete()
        if count:
            facts = {"for_ref": subject_ref_of(user), "source": source, "count": count}
            event_record(kind=actions.TOKEN_REVOKED, stream="auth", actor_ref="", facts=facts)
    return count
