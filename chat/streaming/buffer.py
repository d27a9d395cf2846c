"""The events of a stream, kept for minutes so that any worker can send them, again if need be.

They go to Redis where there is one that answers, else to the database, encrypted either way. An event is shown only
when one of the two holds it: a turn whose worker dies is recorded with what was sent.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django import db
from django.conf import settings

from audit import content
from chat.breakers import BreakerOpen
from chat.models import StreamEvent
from chat.stores.base import StoreAway
from chat.stores.redis import FAILURES, redis_run

T = TypeVar("T")
KEPT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Emitted:
    """One server-sent event; `n` counts from 1 within the stream and is the event's id."""

    n: int
    event: str
    data: dict[str, Any]


def buffer_append(turn_id: uuid.UUID, emitted: Emitted, *, earlier: Sequence[Emitted] = ()) -> None:
    """Raises StoreAway when neither Redis nor the database takes it.

    A store that lacks some of the `earlier` events gets them again: Redis may have gone, or come back empty, and
    whoever reads one of the two must find no gap.
    """
    sealed = {_seal(turn_id, emitted): emitted.n}

    def push(client: Any) -> None:
        if _push(client, turn_id, sealed) <= len(earlier):
            _push(client, turn_id, _sealed_all(turn_id, earlier) | sealed, anew=True)

    try:
        _redis(push)
    except StoreAway:
        if settings.REDIS_URL:
            sealed = _sealed_all(turn_id, earlier) | sealed
        rows = [StreamEvent(turn_id=turn_id, n=n, sealed=element) for element, n in sealed.items()]
        try:
            StreamEvent.objects.bulk_create(rows, ignore_conflicts=True)
        except db.Error as error:
            raise StoreAway(type(error).__name__) from error


def _sealed_all(turn_id: uuid.UUID, events: Sequence[Emitted]) -> dict[bytes, int]:
    return {_seal(turn_id, emitted): emitted.n for emitted in events}


def _push(client: Any, turn_id: uuid.UUID, sealed: dict[bytes, int], *, anew: bool = False) -> int:
    """How many events are held now."""
    pipeline = client.pipeline(transaction=True)
    if anew:
        pipeline.delete(_key(turn_id))
    pipeline.zadd(_key(turn_id), sealed)
    pipeline.expire(_key(turn_id), KEPT_SECONDS)
    pipeline.zcard(_key(turn_id))
    return int(pipeline.execute()[-1])


def buffer_read(turn_id: uuid.UUID, after: int = 0) -> list[Emitted]:
    """The events with a number over `after`, in order; what cannot be had or read is left out."""
    sealed: list[bytes] = []
    for held in (_held_in_database, _held_in_redis):
        with suppress(StoreAway, db.Error):
            sealed += held(turn_id, after)
    return _opened(turn_id, sealed)


def buffer_read_all(turn_id: uuid.UUID) -> list[Emitted]:
    """All events that were sent. Raises StoreAway, or the database's error, when some may be where nobody can look."""
    sealed = _held_in_database(turn_id, 0)
    if settings.REDIS_URL:
        sealed += _held_in_redis(turn_id, 0)
    return _opened(turn_id, sealed)


def _held_in_database(turn_id: uuid.UUID, after: int) -> list[bytes]:
    rows = StreamEvent.objects.filter(turn_id=turn_id, n__gt=after).values_list("sealed", flat=True)
    return [bytes(row) for row in rows]


def _held_in_redis(turn_id: uuid.UUID, after: int) -> list[bytes]:
    held: list[bytes] = _redis(lambda client: client.zrangebyscore(_key(turn_id), f"({after}", "+inf"))
    return held


def _opened(turn_id: uuid.UUID, sealed: list[bytes]) -> list[Emitted]:
    found = {}
    for element in sealed:
        try:
            emitted = _open(turn_id, element)
        except (content.ContentUnreadable, ValueError):
            continue
        found[emitted.n] = emitted
    return [found[n] for n in sorted(found)]


def buffer_delete(turn_id: uuid.UUID) -> None:
    StreamEvent.objects.filter(turn_id=turn_id).delete()
    # Where Redis is away it expires by itself, within minutes.
    with suppress(StoreAway):
        _redis(lambda client: client.delete(_key(turn_id)))


def _redis(command: Callable[[Any], T]) -> T:
    if not settings.REDIS_URL:
        raise StoreAway("not configured")
    try:
        return redis_run(command)
    except (BreakerOpen, *FAILURES) as error:
        raise StoreAway(type(error).__name__) from error


def _key(turn_id: uuid.UUID) -> str:
    return f"onesource:stream:{{{turn_id}}}"


def _seal(turn_id: uuid.UUID, emitted: Emitted) -> bytes:
    plaintext = json.dumps([emitted.n, emitted.event, emitted.data], ensure_ascii=False).encode()
    return turn_seal(turn_id, plaintext, b"event")


def _open(turn_id: uuid.UUID, sealed: bytes) -> Emitted:
    n, event, data = json.loads(turn_unseal(turn_id, sealed, b"event"))
    return Emitted(n, event, data)


def turn_seal(turn_id: uuid.UUID, plaintext: bytes, purpose: bytes) -> bytes:
    ring = content.keyring()
    return content.seal(plaintext, _turn_key(turn_id, ring.keys[ring.active]), purpose + turn_id.bytes)


def turn_unseal(turn_id: uuid.UUID, sealed: bytes, purpose: bytes) -> bytes:
    """Raises content.ContentUnreadable. Any key of the ring: a new one may have come while the stream ran."""
    for secret in content.keyring().keys.values():
        try:
            return content.unseal(sealed, _turn_key(turn_id, secret), purpose + turn_id.bytes)
        except content.ContentUnreadable:
            continue
    raise content.ContentUnreadable("no key of CONTENT_KEYS opens this")


def _turn_key(turn_id: uuid.UUID, secret: bytes) -> bytes:
    return HKDF(hashes.SHA256(), content.KEY_BYTES, None, b"onesource:stream:" + turn_id.bytes).derive(secret)
