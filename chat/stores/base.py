import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import structlog

from chat import metrics
from chat.breakers import BreakerOpen

log = structlog.get_logger(__name__)
Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One side of a turn. Turn n is the messages with seq 2n-1 (user) and 2n (assistant).

    `expires_at` (seconds since 1970) is known of what has been stored: a copy must not outlive what it is a copy of.
    `key_id` names the data key that its turn's recorded content is encrypted under, which encrypts its copies as well.
    """

    seq: int
    role: Role
    text: str
    expires_at: float | None = field(default=None, compare=False)
    key_id: int | None = field(default=None, compare=False)


class StoreAway(Exception):
    """The store did not do what it was asked, and may do so later; the recorded content is still there."""


class ConversationStore(ABC):
    """A place that the last messages of a session are read from quickly. It may lose everything at any time.

    Appends may come in any order, more than once, and at the same time as anything else: what is kept is the messages
    with the highest seqs, each once, the one that was written last.
    """

    name: str

    @abstractmethod
    def load(self, session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[Message]:
        """The last `limit` messages, of those with a seq of at most `upto`; oldest first, none expired.

        Raises StoreAway.
        """

    @abstractmethod
    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        """Adds messages and keeps the last `keep`. Raises StoreAway."""

    @abstractmethod
    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, upto: int, ttl_seconds: int) -> None:
        """Makes `messages` all that is held up to the seq `upto`; what a later turn has added stays.

        Raises StoreAway.
        """

    @abstractmethod
    def delete(self, session_id: uuid.UUID) -> None:
        """Raises StoreAway."""

    @abstractmethod
    def check(self) -> None:
        """Raises StoreAway when the store cannot be used now."""

    def care(self) -> None:  # noqa: B027  (most need none)
        """What is to be done now and then, and within no turn: web workers ask every few seconds. Raises StoreAway."""

    @contextmanager
    def measured(self, op: str) -> Iterator[None]:
        started = time.perf_counter()
        outcome = "error"
        try:
            yield
            outcome = "ok"
        finally:
            metrics.STORE_OPERATIONS.labels(self.name, op, outcome).inc()
            metrics.STORE_SECONDS.labels(self.name, op).observe(time.perf_counter() - started)


def failure_log(store: ConversationStore, op: str, error: StoreAway) -> None:
    """A line for each failure, and none while the breaker is open: that it opened is a line of its own."""
    if not isinstance(error.__cause__, BreakerOpen):
        log.info("store.failed", store=store.name, op=op, cause=str(error))


def each(acts: Sequence[Callable[[], None]]) -> list[StoreAway | None]:
    """Does all of them, whatever becomes of the others; for each its failure."""
    return [_failure(act) for act in acts]


def _failure(act: Callable[[], None]) -> StoreAway | None:
    try:
        act()
    except StoreAway as error:
        return error
    return None
