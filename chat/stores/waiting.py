"""How long one turn waits for a hot store, in all.

Each operation has a limit of its own. A store that is slow but answers just within it would cost a turn that limit for
the history, again for writing back what was rebuilt, again for the append, and its breaker would never open. So the
operations of a turn share one: what has too little left times out, and that opens the breaker.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chat.stores.base import StoreAway

# Less is no time to send anything.
LEAST_SECONDS = 0.001


class TurnWaits:
    """What one turn has waited so far, by store."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def left(self, store: str, limit: float) -> float:
        return limit - self._seconds.get(store, 0.0)

    def add(self, store: str, seconds: float) -> None:
        self._seconds[store] = self._seconds.get(store, 0.0) + seconds


_of_turn: ContextVar[TurnWaits | None] = ContextVar("turn_waits", default=None)


@contextmanager
def shared(waits: TurnWaits) -> Iterator[None]:
    """Operations in the block share their limits with all others of the same turn."""
    token = _of_turn.set(waits)
    try:
        yield
    finally:
        _of_turn.reset(token)


@contextmanager
def waiting(store: str, limit: float) -> Iterator[float]:
    """The seconds that an operation may take now. Raises StoreAway when its turn has none left."""
    waits = _of_turn.get()
    if waits is None:
        yield limit
        return
    left = waits.left(store, limit)
    if left < LEAST_SECONDS:
        raise StoreAway("the turn has waited for it long enough")
    started = time.monotonic()
    try:
        yield left
    finally:
        waits.add(store, time.monotonic() - started)
