"""One circuit breaker a dependency: after repeated failures it is left alone for a while, then tried by one caller."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from circuitbreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker

from chat import metrics

log = structlog.get_logger(__name__)


class BreakerOpen(Exception):
    """The dependency failed lately and is not asked now."""


class Breaker:
    """`failure` says which exceptions count against the dependency; others pass and count as its working.

    While it is half-open one caller probes and the others are turned away: a dependency that stalls holds up one
    request, not all of them. Each transition is logged once.
    """

    def __init__(self, name: str, *, threshold: int, recovery_seconds: float, failure: Callable[[BaseException], bool]):
        self.name = name
        self._recovery_seconds = recovery_seconds
        self._threshold = threshold
        self._failure = failure
        self._probe = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._circuit = CircuitBreaker(  # type: ignore[no-untyped-call]
            failure_threshold=self._threshold,
            recovery_timeout=self._recovery_seconds,
            expected_exception=lambda kind, error: error is not None and self._failure(error),
            name=self.name,
        )
        self._last_state = STATE_CLOSED

    @property
    def state(self) -> str:
        return str(self._circuit.state)

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Raises BreakerOpen instead of running the block while the dependency is left alone."""
        if self._circuit.opened:
            raise BreakerOpen(self.name)
        probing = self.state != STATE_CLOSED
        if probing and not self._probe.acquire(blocking=False):
            raise BreakerOpen(self.name)
        try:
            with self._circuit:
                yield
        finally:
            if probing:
                self._probe.release()
            self._note()

    def _note(self) -> None:
        state = self.state
        if state != self._last_state:
            level = log.warning if state == STATE_OPEN else log.info
            level("breaker.changed", dependency=self.name, before=self._last_state, after=state)
            self._last_state = state
            metrics.BREAKER_STATE.labels(self.name).set({STATE_CLOSED: 0, STATE_OPEN: 2}.get(state, 1))
