import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from audit import actions, content
from audit.keys import data_key_of
from audit.models import Content, Event, HeldContent, LegalHold, SubjectAlias, TurnContent
from audit.partitions import day_start, detached_overdue
from audit.rows import body_read, octets
from audit.services import content_context

OVERDUE_AFTER = timedelta(minutes=15)
# Purges in a row that may each have been under way when a content expired.
LOOK_AT = 100


def facts_of(event: Event) -> dict[str, Any]:
    """What the body says; nothing of one that somebody has spoilt: verification names it, and a page goes on."""
    body = body_read(octets(event.body))
    return body["facts"] if body else {}


def content_read(row: Content) -> dict[str, Any]:
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


def content_for_review(turn_id: uuid.UUID) -> TurnContent | HeldContent | None:
    """The content of a turn with its key: until it expires, and after that or its deletion while it is held.

    What is still there, but neither in its time nor held, is not read. A hold that came after its expiry came too late.
    """
    retained, kept = _for_review()
    return retained.filter(turn_id=turn_id).first() or kept.filter(turn_id=turn_id).first()


def contents_before(session_id: uuid.UUID, seq: int, limit: int) -> list[Content]:
    """The last `limit` of a session before turn `seq` that content_for_review would find, oldest first."""
    found: dict[int, Content] = {}
    for rows in _for_review():
        found |= {row.seq: row for row in rows.filter(session_id=session_id, seq__lt=seq).order_by("-seq")[:limit]}
    return [found[number] for number in sorted(found, reverse=True)[:limit]][::-1]


def _for_review() -> "tuple[QuerySet[TurnContent], QuerySet[HeldContent]]":
    held = Exists(
        LegalHold.objects.filter(
            session_id=OuterRef("session_id"), released_at=None, placed_at__lt=OuterRef("expires_at")
        )
    )
    retained = TurnContent.objects.filter(Q(expires_at__gt=timezone.now()) | held)
    return retained.select_related("key"), HeldContent.objects.filter(held).select_related("key")


@dataclass(frozen=True, slots=True)
class Gone:
    """Why and when the content of a turn went: purged (its retention, or the hold after it, was over), deleted (by its
    owner) or erased (with all of a person)."""

    why: Literal["purged", "deleted", "erased"]
    at: datetime


def content_gone(*, session_id: str, subject_ref: str, expires_at: datetime | None) -> Gone | None:
    """What the trail says of content that content_for_review does not find; None when it says nothing.

    `expires_at` is among the facts of a turn's event.
    """
    released = [
        event.at
        for event in _events(f"hold:{session_id}", actions.HOLD_RELEASED)
        if facts_of(event).get("turns_deleted")
    ]
    if released:
        return Gone("purged", released[-1])
    found: list[Gone] = []
    found += [Gone("deleted", event.at) for event in _events(f"session:{session_id}", actions.SESSION_DELETED)]
    found += [Gone("erased", event.at) for event in _events(f"subject:{subject_ref}", actions.SUBJECT_ERASED)]
    if expires_at is not None:
        # One that was under way then may have had an earlier limit.
        purges = Event.objects.filter(kind=actions.CONTENT_PURGED, at__gte=expires_at).order_by("at")[:LOOK_AT]
        later = (event.at for event in purges if (before := _before(event)) and before > expires_at)
        found += [Gone("purged", at) for at in islice(later, 1)]
    return min(found, key=lambda gone: gone.at, default=None)


def _before(event: Event) -> datetime | None:
    try:
        return datetime.fromisoformat(facts_of(event)["before"])
    except (KeyError, TypeError, ValueError):
        return None


def _events(stream: str, kind: str) -> list[Event]:
    return list(Event.objects.filter(stream=stream, kind=kind).order_by("stream_seq"))


def contents_due(before: datetime) -> "QuerySet[TurnContent]":
    """What is to be deleted by now. On PostgreSQL what has expired today waits for its day to be over."""
    if connection.vendor == "postgresql":
        before = day_start(before.astimezone(UTC).date())
    return TurnContent.objects.filter(expires_at__lt=before)


def contents_overdue() -> int:
    """How many rows should have been deleted a quarter of an hour ago."""
    before = timezone.now() - OVERDUE_AFTER
    return contents_due(before).count() + detached_overdue(before)


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
