"""The conversation of a session: a quick store in front, the record behind it.

A hot store is a cache. When it is away, empty, or its last message is not that of the session's last turn, the history
is rebuilt from the record and written back; so nothing is lost as long as the database answers.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import structlog
from django.conf import settings

from chat import metrics
from chat.stores.base import ConversationStore, Message, StoreAway
from chat.stores.database import DatabaseStore
from chat.stores.redis import RedisStore
from flags.snapshot import Snapshot

log = structlog.get_logger(__name__)
RECORD = DatabaseStore()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class History:
    """`outcome`: none (first turn), hit (the store had it), rebuilt (the record had it), expired (its retention is
    over), lost (it should be there and is not)."""

    messages: list[Message]
    outcome: str


@lru_cache(maxsize=1)
def hot_stores() -> dict[str, ConversationStore]:
    """The configured stores in front of the record, by name."""
    return {"redis": RedisStore()} if settings.REDIS_URL else {}


def primary(flags: Snapshot) -> ConversationStore:
    """The store named by CONV_STORE_PRIMARY; the record when that one is not configured here."""
    return hot_stores().get(flags.choice("CONV_STORE_PRIMARY"), RECORD)


def history_load(session_id: uuid.UUID, *, turn_count: int, expired: bool, flags: Snapshot) -> History:
    limit = 2 * min(turn_count, int(flags.number("CONV_MAX_TURNS")))
    if not limit:
        return History([], "none")
    store = primary(flags)
    expected = range(2 * turn_count - limit + 1, 2 * turn_count + 1)
    messages = _held(store, session_id, limit)
    outcome = "hit"
    if [message.seq for message in messages] != list(expected):
        if store is not RECORD:
            outcome = "rebuilt"
            messages = _timed(RECORD, "load", lambda: RECORD.load(session_id, limit))
            _rebuild(store, session_id, messages, flags)
        if not messages or messages[-1].seq != expected[-1]:
            outcome = "expired" if expired else "lost"
    metrics.CONTEXT_LOADS.labels(outcome).inc()
    return History(messages, outcome)


def history_append(session_id: uuid.UUID, messages: Sequence[Message], *, flags: Snapshot) -> None:
    """After the commit. A failure costs a metric and a log line: the next turn rebuilds."""
    keep = 2 * int(flags.number("CONV_MAX_TURNS"))
    ttl = int(flags.number("CONV_TTL_SECONDS"))
    for store in _written(flags):
        _quietly(store, "append", lambda s: s.append(session_id, messages, keep=keep, ttl_seconds=ttl))


def history_delete(session_id: uuid.UUID) -> None:
    for store in hot_stores().values():
        _quietly(store, "delete", lambda s: s.delete(session_id))


def _written(flags: Snapshot) -> list[ConversationStore]:
    if flags.boolean("CONV_DUAL_WRITE"):
        return list(hot_stores().values())
    store = primary(flags)
    return [] if store is RECORD else [store]


def _held(store: ConversationStore, session_id: uuid.UUID, limit: int) -> list[Message]:
    if store is RECORD:
        # No second source: a database that is away ends the turn with 503 before anyone is answered.
        return _timed(RECORD, "load", lambda: RECORD.load(session_id, limit))
    try:
        return _timed(store, "load", lambda: store.load(session_id, limit))
    except StoreAway:
        return []


def _rebuild(store: ConversationStore, session_id: uuid.UUID, messages: list[Message], flags: Snapshot) -> None:
    ttl = int(flags.number("CONV_TTL_SECONDS"))
    _quietly(store, "replace", lambda s: s.replace(session_id, messages, ttl_seconds=ttl))


def _quietly(store: ConversationStore, op: str, act: Callable[[ConversationStore], None]) -> None:
    try:
        _timed(store, op, lambda: act(store))
    except StoreAway as error:
        log.info("store.failed", store=store.name, op=op, cause=str(error))


def _timed(store: ConversationStore, op: str, act: Callable[[], T]) -> T:
    started = time.perf_counter()
    outcome = "error"
    try:
        result = act()
        outcome = "ok"
        return result
    finally:
        metrics.STORE_OPERATIONS.labels(store.name, op, outcome).inc()
        metrics.STORE_SECONDS.labels(store.name, op).observe(time.perf_counter() - started)
