"""Requests a minute and caller over a moving window; in Redis when there is one, so that all pods count together."""

import time
from dataclasses import dataclass
from functools import lru_cache

import structlog
from django.conf import settings
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chat import metrics
from chat.breakers import BreakerOpen
from chat.stores.redis import BREAKER
from flags.snapshot import Snapshot, Subject
from onesource.errors import TooManyRequests

log = structlog.get_logger(__name__)


class TurnsPerMinute(RateLimitItemPerMinute):
    """Counts under one key whatever the limit is: a lowered limit counts what was asked before."""

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return "/".join((str(self.namespace), *map(str, identifiers)))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the RateLimit-* headers say (seconds until a place is free again in `reset`)."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


@lru_cache(maxsize=1)
def _local() -> MovingWindowRateLimiter:
    return MovingWindowRateLimiter(MemoryStorage())


@lru_cache(maxsize=1)
def _shared() -> MovingWindowRateLimiter | None:
    if not settings.REDIS_URL:
        return None
    storage = RedisStorage(
        settings.REDIS_URL,
        socket_timeout=settings.REDIS_SOCKET_TIMEOUT_MS / 1000,
        socket_connect_timeout=settings.REDIS_CONNECT_TIMEOUT_MS / 1000,
        retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
    )
    return MovingWindowRateLimiter(storage)


def turn_throttle(subject: Subject, flags: Snapshot) -> Allowance:
    """Takes one place of the caller's allowance. Raises TooManyRequests."""
    limit = int(flags.number("RATE_LIMIT_PER_USER"))
    item = TurnsPerMinute(limit)
    shared = _shared()
    if shared is not None:
        try:
            with BREAKER.guarding():
                return _take(shared, item, subject.ref, "shared")
        except (BreakerOpen, RedisError, OSError):
            # Never open: each process goes on counting for itself.
            pass
    return _take(_local(), item, subject.ref, "process")


def _take(limiter: MovingWindowRateLimiter, item: RateLimitItemPerMinute, ref: str, scope: str) -> Allowance:
    allowed = limiter.hit(item, "turn", ref)
    window = limiter.get_window_stats(item, "turn", ref)
    reset = max(1, int(window.reset_time - time.time()) + 1)
    allowance = Allowance(item.amount, max(0, window.remaining), reset)
    if not allowed:
        metrics.RATE_LIMITED.labels(scope).inc()
        raise RateLimited(allowance)
    return allowance


class RateLimited(TooManyRequests):
    def __init__(self, allowance: Allowance) -> None:
        super().__init__(
            f"At most {allowance.limit} questions a minute. Try again in {allowance.reset} seconds.",
            retry_after=allowance.reset,
        )
        self.allowance = allowance
