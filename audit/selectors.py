import json
import uuid
from typing import Any

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from audit import content
from audit.keys import data_key_of
from audit.models import SubjectAlias, TurnContent
from audit.services import content_context


def content_read(row: TurnContent) -> dict[str, Any]:
    """The decrypted payload of a turn; `row.key` must be loaded. Raises content.ContentUnreadable."""
    plaintext = content.unseal(
        bytes(row.sealed), data_key_of(row.key), content_context(row.turn_id, row.session_id, row.seq)
    )
    payload: dict[str, Any] = json.loads(plaintext)
    return payload


def contents_last(session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[TurnContent]:
    """The last `limit` retained turns of a session (none after turn `upto`), oldest first.

    The expired are not read, purged or not.
    """
    rows = TurnContent.objects.filter(session_id=session_id, expires_at__gt=timezone.now()).select_related("key")
    if upto is not None:
        rows = rows.filter(seq__lte=upto)
    return list(rows.order_by("-seq")[:limit])[::-1]


def content_of(turn_id: uuid.UUID) -> TurnContent | None:
    return TurnContent.objects.filter(turn_id=turn_id, expires_at__gt=timezone.now()).select_related("key").first()


def person_of(subject_ref: str) -> str:
    """The user name behind a pseudonym, for people who may see it; the pseudonym itself after an erasure."""
    alias = SubjectAlias.objects.filter(subject_ref=subject_ref).select_related("user").first() if subject_ref else None
    return alias.user.get_username() if alias else subject_ref


def person_by(field: str) -> Subquery:
    """For an annotation: the user name behind the pseudonym in `field`, null after an erasure."""
    return Subquery(SubjectAlias.objects.filter(subject_ref=OuterRef(field)).values("user__username")[:1])


def subject_ref_held(user_id: int) -> str:
    """The pseudonym of a user who has one, or "". Makes none, unlike subject_ref_of: for a user about to be deleted."""
    return SubjectAlias.objects.filter(user_id=user_id).values_list("subject_ref", flat=True).first() or ""
