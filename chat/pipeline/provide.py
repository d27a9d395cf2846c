"""The provider call: outside any database transaction, under one deadline and a circuit breaker."""

import time
from dataclasses import dataclass, replace

import structlog
from django.db import connection

from chat import metrics
from chat.breakers import Breaker, BreakerOpen
from chat.providers import EXTRACTIVE, Completion, CompletionRequest, ProviderError, configured

log = structlog.get_logger(__name__)
BREAKER = Breaker(
    "provider",
    threshold=5,
    recovery_seconds=10,
    failure=lambda error: isinstance(error, ProviderError) and error.counts,
)


@dataclass(frozen=True, slots=True)
class Provided:
    completion: Completion
    degraded: bool
    seconds: float
    failure: str = ""


def _connection_lend() -> None:
    """Gives the pooled connection back: a provider call takes seconds, a turn's queries milliseconds."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


def provide(request: CompletionRequest) -> Provided:
    """The configured provider's reply; when it gives none, the extractive provider's, marked degraded."""
    provider = configured()
    started = time.perf_counter()
    if provider is EXTRACTIVE:
        completion = EXTRACTIVE.complete(request)
        metrics.PROVIDER_REQUESTS.labels(EXTRACTIVE.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    _connection_lend()
    try:
        with BREAKER.guarding():
            completion = provider.complete(request)
        metrics.PROVIDER_REQUESTS.labels(provider.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    except BreakerOpen:
        failure = "breaker_open"
    except ProviderError as error:
        failure = error.code
        log.warning("provider.failed", provider=provider.name, code=failure)
    metrics.PROVIDER_REQUESTS.labels(provider.name, failure).inc()
    seconds = time.perf_counter() - started
    return Provided(
        EXTRACTIVE.complete(replace(request, degraded=True)), degraded=True, seconds=seconds, failure=failure
    )
