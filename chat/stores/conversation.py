"""The conversation of a session: a quick store in front, the record behind it.

A hot store is a cache. When it is away, empty, or its last message is not that of the session's last turn, the history
is rebuilt from the record and written back; so nothing is lost as long as the database answers.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

from chat import metrics
from chat.stores.base import ConversationStore, Message, StoreAway, failure_log
from chat.stores.database import DatabaseStore
from chat.stores.dual import DualStore
from chat.stores.redis import RedisStore
from flags.snapshot import Snapshot

RECORD = DatabaseStore()


@dataclass(frozen=True, slots=True)
class History:
    """`outcome`: none (first turn), hit (the store had it), rebuilt (the record had it), expired (its retention is
    over), lost (it should be there and is not)."""

    messages: list[Message]
    outcome: str


@lru_cache(maxsize=1)
def hot_stores() -> dict[str, ConversationStore]:
    """The configured stores in front of the record, by name."""
    stores: dict[str, ConversationStore] = {}
    if settings.REDIS_URL:
        stores["redis"] = RedisStore()
    if settings.MONGO_URL:
        from chat.stores.mongo import MongoStore

        stores["mongo"] = MongoStore()
    return stores


def primary(flags: Snapshot) -> ConversationStore:
    """The store named by CONV_STORE_PRIMARY; the record when that one is not configured here."""
    return hot_stores().get(flags.choice("CONV_STORE_PRIMARY"), RECORD)


def store_for(flags: Snapshot) -> ConversationStore:
    """What a turn with these flags reads and writes."""
    first = primary(flags)
    others = [store for store in hot_stores().values() if store is not first]
    return DualStore(first, *others) if others and flags.boolean("CONV_DUAL_WRITE") else first


def history_load(session_id: uuid.UUID, *, turn_count: int, expired: bool, flags: Snapshot) -> History:
    limit = 2 * min(turn_count, int(flags.number("CONV_MAX_TURNS")))
    if not limit:
        return History([], "none")
    store = store_for(flags)
    # Another tab may have added turns since `turn_count` was read: they are not of this history.
    upto = 2 * turn_count
    expected = range(upto - limit + 1, upto + 1)
    messages = _held(store, session_id, limit, upto)
    outcome = "hit"
    if [message.seq for message in messages] != list(expected):
        if primary(flags) is not RECORD:
            outcome = "rebuilt"
            messages = RECORD.load(session_id, limit, upto=upto)
            ttl = int(flags.number("CONV_TTL_SECONDS"))
            _quietly(store, "replace", lambda s: s.replace(session_id, messages, upto=upto, ttl_seconds=ttl))
        if not messages or messages[-1].seq != upto:
            outcome = "expired" if expired else "lost"
    metrics.CONTEXT_LOADS.labels(outcome).inc()
    return History(messages, outcome)


def history_append(session_id: uuid.UUID, messages: Sequence[Message], *, flags: Snapshot) -> None:
    """After the commit. A failure costs a metric and a log line: the next turn rebuilds."""
    keep = 2 * int(flags.number("CONV_MAX_TURNS"))
    ttl = int(flags.number("CONV_TTL_SECONDS"))
    _quietly(store_for(flags), "append", lambda s: s.append(session_id, messages, keep=keep, ttl_seconds=ttl))


def history_delete(session_id: uuid.UUID) -> bool:
    """In every configured store, whichever the flags name: each may hold something from before. True when all did."""
    # Each is asked, whatever became of the one before.
    done = [_quietly(store, "delete", lambda s: s.delete(session_id)) for store in hot_stores().values()]
    return all(done)


def stores_care() -> None:
    for store in hot_stores().values():
        _quietly(store, "care", lambda s: s.care())


def _held(store: ConversationStore, session_id: uuid.UUID, limit: int, upto: int) -> list[Message]:
    # Of the record there is no StoreAway: a database that is away ends the turn with 503 before anyone is answered.
    try:
        return store.load(session_id, limit, upto=upto)
    except StoreAway:
        return []


def _quietly(store: ConversationStore, op: str, act: Callable[[ConversationStore], None]) -> bool:
    try:
        act(store)
    except StoreAway as error:
        failure_log(store, op, error)
        return False
    return True
