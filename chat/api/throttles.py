"""Requests a minute and caller over a moving window; in Redis when there is one, so that all pods count together."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog
from django.conf import settings
from django.core.cache import caches
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from chat import metrics
from chat.breakers import BreakerOpen
from chat.stores.redis import FAILURES, redis_run
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


class SharedStorage(RedisStorage):
    """limits' storage over the client that the conversations use as well: one server, Cluster or Sentinel, the same
    timeouts, and no second set of connections. limits would make its own from a URL."""

    def __init__(self, client: Any) -> None:
        super(RedisStorage, self).__init__()
        self.key_prefix = self.PREFIX
        self.target_server = "redis"
        self.dependency = self.dependencies["redis"].module
        self.storage = client
        self.initialize_storage("")


@lru_cache(maxsize=1)
def _shared() -> MovingWindowRateLimiter:
    """Called under the breaker: to know a cluster's client is to have asked its nodes."""
    cache: Any = caches["conversations"]
    return MovingWindowRateLimiter(SharedStorage(cache.client.get_client(write=True)))


def turn_throttle(subject: Subject, flags: Snapshot) -> Allowance:
    """Takes one place of the caller's allowance. Raises TooManyRequests."""
    limit = int(flags.number("RATE_LIMIT_PER_USER"))
    item = TurnsPerMinute(limit)
    if settings.REDIS_URL:
        try:
            return redis_run(lambda client: _take(_shared(), item, subject.ref, "shared"))
        except (BreakerOpen, *FAILURES):
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
