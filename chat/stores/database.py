import uuid
from collections.abc import Sequence

import structlog
from django import db
from django.db import connection

from audit.content import ContentUnreadable
from audit.selectors import content_read, contents_last
from chat.stores.base import ConversationStore, Message, StoreAway

log = structlog.get_logger(__name__)


class DatabaseStore(ConversationStore):
    """Reads the recorded, encrypted content: what the record holds is what was said, so nothing is written here."""

    name = "database"

    def load(self, session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[Message]:
        """Lets a database that is away rise: without it no turn can be recorded either."""
        messages = []
        with self.measured("load"):
            rows = contents_last(session_id, limit // 2 + 1, upto=None if upto is None else (upto + 1) // 2)
        for row in rows:
            try:
                payload = content_read(row)
            except ContentUnreadable:
                # One turn less of context is better than no answer; that it is missing shows in the outcome.
                log.warning("store.content_unreadable", turn_id=str(row.turn_id))
                continue
            expires_at = row.expires_at.timestamp()
            messages.append(Message(2 * row.seq - 1, "user", payload["question"], expires_at, row.key_id))
            messages.append(Message(2 * row.seq, "assistant", payload["answer_text"], expires_at, row.key_id))
        held = [message for message in messages if upto is None or message.seq <= upto]
        return held[-limit:] if limit else []

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        """Recording the turn has already written it."""

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, upto: int, ttl_seconds: int) -> None:
        """The record is what other stores are rebuilt from, never the reverse."""

    def delete(self, session_id: uuid.UUID) -> None:
        """Content is erased by audit.erasing.content_erase, with its event."""

    def check(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except db.Error as error:
            raise StoreAway(type(error).__name__) from error
