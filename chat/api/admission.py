"""How many turns a process takes on at once. Above that it says 503 at once instead of queueing.

Turns wait for a provider, possibly its whole budget. Were all threads of a worker to wait, the probes would time out
too, and the orchestrator would restart what only has to wait.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from chat import metrics
from onesource.errors import Unavailable


class Busy(Unavailable):
    code = "busy"
    title = "Too many questions are being answered at the moment. Please try again"


class Admission:
    def __init__(self, places: int) -> None:
        self._places = threading.Semaphore(places)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises Busy when no place is free."""
        if not self._places.acquire(blocking=False):
            metrics.TURNS_SHED.inc()
            raise Busy(retry_after=1)
        try:
            yield
        finally:
            self._places.release()


ADMISSION = Admission(settings.CHAT_CONCURRENCY)
