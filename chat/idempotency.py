"""Idempotency-Key: a request sent twice under one key is one turn.

A worker killed after its commit has answered nobody although the turn is on record (measured: 16 of 16 requests
that nginx reported as 502 had been executed); the client's repeat gets that turn's answer instead of a second one.
"""

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from audit.content import ContentUnreadable
from audit.selectors import content_of, content_read
from chat.models import IdempotencyKey, Stream, Turn
from onesource.errors import Conflict, Gone

KEPT = timedelta(hours=24)
# A claim without a turn is taken over once its request cannot be running any more: provider budget and this.
GRACE = timedelta(seconds=30)
PURGE_BATCH = 500
# Workers beat every 5 s (chat.streaming.sweeper).
SILENT_SECONDS = 20
_held: set[int] = set()


@dataclass(frozen=True, slots=True)
class Claim:
    """This request holds the key until it settles or releases it."""

    pk: int
    claimed_at: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """The key's request was answered by this turn."""

    turn_id: uuid.UUID


def fingerprint(path: str, body: Any) -> str:
    """For claim_take. Not to be kept: who has it can try out questions."""
    text = json.dumps([path, body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _keyed(subject_ref: str, key: str, fingerprint: str) -> str:
    """What is kept of a fingerprint: of no use without SECRET_KEY, and another under each key of each caller.

    For 24 hours after SECRET_KEY was changed, repeats of requests from before are told that theirs is another one.
    """
    text = json.dumps(["idempotency", subject_ref, key, fingerprint])
    return hmac.new(settings.SECRET_KEY.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _matches(row: IdempotencyKey, fingerprint: str) -> bool:
    """Rows of earlier releases hold the fingerprint itself, for 24 hours after an upgrade."""
    kept = row.fingerprint.encode()
    keyed = _keyed(row.subject_ref, row.key, fingerprint)
    return any(hmac.compare_digest(kept, known.encode()) for known in (keyed, fingerprint))


def claim_take(*, subject_ref: str, key: str, fingerprint: str, budget: timedelta) -> Claim | Replay:
    """Raises Conflict for another body under the key, or while the key's request is running."""
    now = timezone.now()
    keyed = _keyed(subject_ref, key, fingerprint)
    row, created = IdempotencyKey.objects.get_or_create(
        subject_ref=subject_ref, key=key, defaults={"fingerprint": keyed, "claimed_at": now}
    )
    if created:
        _held.add(row.pk)
        return Claim(row.pk, row.claimed_at)
    if row.claimed_at < now - KEPT:
        return _take_over(row, keyed)
    if not _matches(row, fingerprint):
        raise Conflict(
            "This Idempotency-Key was used with another request. Use a new key for a new question.",
            code="idempotency_key_reused",
        )
    if row.turn_id:
        return Replay(row.turn_id)
    if row.claimed_at < now - budget - GRACE or _is_orphaned(row):
        return _take_over(row, keyed)
    raise Conflict(
        "The request with this Idempotency-Key is still running. Send it again in a moment.",
        code="idempotency_key_in_flight",
        retry_after=2,
    )


def _is_orphaned(row: IdempotencyKey) -> bool:
    """Its worker has given no sign of life. One that lives all the same cannot settle: only one turn is recorded."""
    silent = IdempotencyKey.objects.filter(pk=row.pk, seen_at__lt=Now() - timedelta(seconds=SILENT_SECONDS))
    return row.pk not in _held and silent.exists()


def claims_beat() -> None:
    """The sign of life for all claims that requests of this process hold."""
    held = list(_held)
    if held:
        IdempotencyKey.objects.filter(pk__in=held, turn_id=None).update(seen_at=Now())


def _take_over(row: IdempotencyKey, keyed: str) -> Claim:
    now = timezone.now()
    taken = IdempotencyKey.objects.filter(pk=row.pk, claimed_at=row.claimed_at).update(
        fingerprint=keyed, turn_id=None, claimed_at=now, seen_at=Now()
    )
    if not taken:
        raise Conflict(
            "The request with this Idempotency-Key is still running.", code="idempotency_key_in_flight", retry_after=2
        )
    _held.add(row.pk)
    return Claim(row.pk, now)


def claim_settle(claim: Claim, turn_id: uuid.UUID) -> None:
    """In the transaction that records the turn. Raises Conflict when another request has taken the key over."""
    _held.discard(claim.pk)
    if not IdempotencyKey.objects.filter(pk=claim.pk, claimed_at=claim.claimed_at, turn_id=None).update(
        turn_id=turn_id
    ):
        raise Conflict("Another request with this Idempotency-Key has been answered.", code="idempotency_key_in_flight")


def claim_release(claim: Claim) -> None:
    """After a failure: nothing was recorded, so the key may be used again at once."""
    _held.discard(claim.pk)
    IdempotencyKey.objects.filter(pk=claim.pk, claimed_at=claim.claimed_at, turn_id=None).delete()


def claims_forget(*, subject_ref: str, session_id: uuid.UUID) -> None:
    """With a session that is deleted, in the caller's transaction: a key may have been made from what was asked.

    A repeat that comes after it is a new request.
    """
    turns = Turn.objects.filter(session_id=session_id).values("pk")
    streams = Stream.objects.filter(session_id=session_id).values("pk")
    IdempotencyKey.objects.filter(Q(turn_id__in=turns) | Q(turn_id__in=streams), subject_ref=subject_ref).delete()


def claims_purge() -> int:
    """Deletes the claims that count no longer, and returns how many they were."""
    before = timezone.now() - KEPT
    purged = 0
    while True:
        # Some at a time, so that no request waits long for the table. One taken over meanwhile is not old any more.
        old = IdempotencyKey.objects.filter(claimed_at__lt=before)
        pks = list(old.order_by("claimed_at").values_list("pk", flat=True)[:PURGE_BATCH])
        purged += old.filter(pk__in=pks).delete()[0]
        if len(pks) < PURGE_BATCH:
            return purged


def answer_replay(replay: Replay) -> dict[str, Any]:
    """The recorded answer. Raises Gone when its content has been erased or has expired."""
    row = content_of(replay.turn_id)
    if row is None:
        raise Gone("The answer to this request is no longer held.", code="content_gone")
    try:
        answer: dict[str, Any] = content_read(row)["answer"]
    except ContentUnreadable:
        raise Gone("The answer to this request cannot be read any more.", code="content_gone") from None
    return answer
