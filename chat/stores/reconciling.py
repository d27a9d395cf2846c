"""The hot stores held against the record, session by session."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from chat.models import Session
from chat.stores.base import ConversationStore, Message, StoreAway
from chat.stores.conversation import RECORD

Finding = Literal["same", "missing", "different", "left over", "not read"]
# A turn that is being recorded is in the record a moment before it is in the stores.
LOOKS = 3
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Compared:
    """missing: the store holds nothing of the session. different: other messages than the record. left over: messages
    of a session that was deleted. not read: the store is away."""

    session_id: uuid.UUID
    store: str
    finding: Finding
    repaired: bool = False

    @property
    def diverged(self) -> bool:
        return self.finding != "same" and not self.repaired


def session_reconcile(
    session: Session, stores: list[ConversationStore], *, limit: int, ttl_seconds: int, repair: bool
) -> Iterator[Compared]:
    """`limit` in messages; `ttl_seconds` is for what is written back."""
    for store in stores:
        try:
            yield _reconcile(session, store, limit, ttl_seconds, repair)
        except StoreAway:
            yield Compared(session.pk, store.name, "not read")


def _reconcile(session: Session, store: ConversationStore, limit: int, ttl_seconds: int, repair: bool) -> Compared:
    for look in range(LOOKS):
        if look:
            time.sleep(PAUSE_SECONDS)
            session.refresh_from_db()
        recorded = [] if session.deleted_at else RECORD.load(session.pk, limit, upto=2 * session.turn_count)
        held = store.load(session.pk, limit)
        if held == recorded:
            return Compared(session.pk, store.name, "same")
    if repair:
        # What is newer than the record comes from a database that was restored: a rebuild alone would leave it.
        store.delete(session.pk)
        if recorded:
            store.replace(session.pk, recorded, upto=2 * session.turn_count, ttl_seconds=ttl_seconds)
    return Compared(session.pk, store.name, _finding(session, held), repaired=repair)


def _finding(session: Session, held: list[Message]) -> Finding:
    if session.deleted_at:
        return "left over"
    return "different" if held else "missing"
