"""Deleting contents and their keys in the caller's transaction, past no legal hold."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from audit.keys import data_keys_forget
from audit.models import ContentKey, HeldContent, LegalHold, SubjectAlias, TurnContent

# A turn that began yesterday may be recorded, under yesterday's key, a little after midnight.
KEY_GRACE = timedelta(hours=1)
DELETE_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Erased:
    """`turns` whose texts are deleted; `held` ones that a legal hold keeps, out of their owner's sight."""

    turns: int = 0
    held: int = 0


def content_erase(*, session_id: uuid.UUID) -> Erased:
    """Deletes the texts of a session, in the caller's transaction."""
    return _delete_all(TurnContent.objects.filter(session_id=session_id))


def subject_content_erase(*, subject_ref: str) -> Erased:
    """Deletes the texts that are under keys of a subject, in the caller's transaction."""
    keys = ContentKey.objects.filter(subject_ref=subject_ref).values_list("pk", flat=True)
    return _delete_all(TurnContent.objects.filter(key_id__in=list(keys)))


def _delete_all(contents: "QuerySet[TurnContent]") -> Erased:
    turns = held = 0
    while True:
        erased = contents_delete(contents.order_by("pk")[:DELETE_LIMIT])
        if erased == Erased():
            return Erased(turns, held)
        turns, held = turns + erased.turns, held + erased.held


def contents_delete(contents: "QuerySet[TurnContent]", *, skip_locked: bool = False) -> Erased:
    """Copies what is held of `contents` to HeldContent, and deletes all of them; in the caller's transaction.

    The rows are locked before the holds are read: a hold that is being placed locks them as well, so that it either
    is seen here or finds them gone.
    """
    locked = contents.select_for_update(skip_locked=skip_locked)
    rows = list(locked.values_list("turn_id", "session_id", "expires_at"))
    if not rows:
        return Erased()
    # The bounds spare PostgreSQL the partitions of other days.
    expiries = [expires_at for _, _, expires_at in rows]
    chosen = TurnContent.objects.filter(
        turn_id__in=[turn_id for turn_id, _, _ in rows], expires_at__gte=min(expiries), expires_at__lte=max(expiries)
    )
    held = _set_aside(chosen, {session_id for _, session_id, _ in rows})
    deleted, _ = chosen.delete()
    return Erased(turns=deleted - held, held=held)


def _set_aside(contents: "QuerySet[TurnContent]", session_ids: set[uuid.UUID]) -> int:
    """What had not expired when its hold was placed. Locks the holds: a release waits, and finds the copies."""
    holds = LegalHold.objects.select_for_update().filter(session_id__in=session_ids, released_at=None).order_by("pk")
    placed = dict(holds.values_list("session_id", "placed_at"))
    names = ("turn_id", "session_id", "seq", "key_id", "sealed", "created_at", "expires_at")
    rows = contents.filter(session_id__in=list(placed)).values(*names)
    held = [HeldContent(**row) for row in rows if placed[row["session_id"]] < row["expires_at"]]
    return len(HeldContent.objects.bulk_create(held, ignore_conflicts=True))


def keys_erase(*, subject_ref: str) -> int:
    """Deletes all keys of a subject but those that a legal hold needs, in the caller's transaction."""
    return _keys_delete(ContentKey.objects.filter(subject_ref=subject_ref))


def keys_purge(key_ids: Iterable[int]) -> int:
    """Deletes those of the keys that nothing is under any more, in the caller's transaction.

    Only of days that are over, or of a person who was erased: a turn that is being recorded may be about to use
    today's. Should one use an older key all the same, the database refuses whichever of the two commits second, for
    the content refers to the key.
    """
    over = Q(day__lt=(timezone.now() - KEY_GRACE).astimezone(UTC).date())
    orphaned = ~Exists(SubjectAlias.objects.filter(subject_ref=OuterRef("subject_ref")))
    return _keys_delete(ContentKey.objects.filter(over | orphaned, pk__in=list(key_ids)))


def _keys_delete(keys: "QuerySet[ContentKey]") -> int:
    free = (~Exists(model.objects.filter(key=OuterRef("pk"))) for model in (TurnContent, HeldContent))
    key_ids = list(keys.filter(*free).values_list("pk", flat=True))
    if not key_ids:
        return 0
    transaction.on_commit(partial(data_keys_forget, key_ids), robust=True)
    # Not delete(): it would take along contents that came to be under a key since it was found to have none.
    return ContentKey.objects.filter(pk__in=key_ids)._raw_delete(using=DEFAULT_DB_ALIAS)
