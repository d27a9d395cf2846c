"""How many turns a process takes on at once. Above that it says 503 at once instead of queueing.

Turns wait for a provider, possibly its whole budget. Were all threads of a worker to wait, the probes would time out
too, and the orchestrator would restart what only has to wait.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings

from chat import metrics
from onesource.errors import TooManyRequests, Unavailable


class Busy(Unavailable):
    code = "busy"
    title = "Too many questions are being answered at the moment. Please try again"


class Place:
    """One of an Admission's places, until it is released; released again it does nothing."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._held = True

    def release(self) -> None:
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._places.release()


class Admission:
    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    def take(self) -> Place:
        """Raises Busy when no place is free."""
        if not self._places.acquire(blocking=False):
            metrics.TURNS_SHED.inc()
            raise Busy(retry_after=1)
        return Place(self._places)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A place for the length of the block. Raises Busy."""
        place = self.take()
        try:
            yield
        finally:
            place.release()


class TurnAdmission:
    """So many places for each turn: how many turns a caller has is limited, how often one is watched would not be."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._taken: Counter[uuid.UUID] = Counter()

    def take(self, turn_id: uuid.UUID) -> Callable[[], None]:
        """What gives the place back, once. Raises TooManyRequests."""
        with self._lock:
            if self._taken[turn_id] >= self._places:
                raise TooManyRequests(
                    f"This stream is watched {self._places} times already. Close one, or try again in a moment.",
                    code="too_many_watchers",
                    retry_after=2,
                )
            self._taken[turn_id] += 1
        held = iter((turn_id,))
        return lambda: self._release(next(held, None))

    def _release(self, turn_id: uuid.UUID | None) -> None:
        if turn_id is None:
            return
        with self._lock:
            self._taken[turn_id] -= 1
            if not self._taken[turn_id]:
                del self._taken[turn_id]


# Resumed streams: a dropped connection is noticed only when the next event or ping cannot be sent.
RESUMED_EACH = 4
RESUMED = TurnAdmission(RESUMED_EACH)
# Responses, each of which holds a thread of the server; and producers of streams, which outlive a dropped connection.
ADMISSION = Admission(settings.CHAT_CONCURRENCY)
PRODUCERS = Admission(settings.CHAT_CONCURRENCY)
