import uuid
from collections.abc import Sequence

from django.db import DatabaseError, InterfaceError, connection

from audit.content import ContentUnreadable
from audit.selectors import content_read, contents_last
from chat.stores.base import ConversationStore, Message, StoreAway


class DatabaseStore(ConversationStore):
    """Reads the recorded, encrypted content: what the record holds is what was said, so nothing is written here."""

    name = "database"

    def load(self, session_id: uuid.UUID, limit: int) -> list[Message]:
        messages = []
        try:
            for row in contents_last(session_id, (limit + 1) // 2):
                payload = content_read(row)
                messages.append(Message(2 * row.seq - 1, "user", payload["question"]))
                messages.append(Message(2 * row.seq, "assistant", payload["answer_text"]))
        except ContentUnreadable as error:
            raise StoreAway("content unreadable") from error
        return messages[-limit:] if limit else []

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        """Recording the turn has already written it."""

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, ttl_seconds: int) -> None:
        """The record is what other stores are rebuilt from, never the reverse."""

    def delete(self, session_id: uuid.UUID) -> None:
        """Content is erased by audit.services.content_erase, with its event."""

    def check(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError) as error:
            raise StoreAway(type(error).__name__) from error
