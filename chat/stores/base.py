import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One side of a turn. Turn n is the messages with seq 2n-1 (user) and 2n (assistant)."""

    seq: int
    role: Role
    text: str


class StoreAway(Exception):
    """The store did not do what it was asked, and may do so later; the recorded content is still there."""


class ConversationStore(ABC):
    """A place that the last messages of a session are read from quickly. It may lose everything at any time."""

    name: str

    @abstractmethod
    def load(self, session_id: uuid.UUID, limit: int) -> list[Message]:
        """The last `limit` messages, oldest first, of which none has expired. Raises StoreAway."""

    @abstractmethod
    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        """Adds messages and keeps the last `keep`. Raises StoreAway."""

    @abstractmethod
    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, ttl_seconds: int) -> None:
        """Makes `messages` all that is held of the session. Raises StoreAway."""

    @abstractmethod
    def delete(self, session_id: uuid.UUID) -> None:
        """Raises StoreAway."""

    @abstractmethod
    def check(self) -> None:
        """Raises StoreAway when the store cannot be used now."""
