"""The provider call: outside any database transaction, under one deadline and a circuit breaker."""

import time
from dataclasses import dataclass, replace

import structlog

from chat import metrics
from chat.breakers import Breaker, BreakerOpen
from chat.connections import connection_lend
from chat.pipeline.sink import BlockSink
from chat.providers import EXTRACTIVE, Completion, CompletionRequest, Provider, ProviderError, configured
from chat.providers.base import tokens_estimate

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


def provide(request: CompletionRequest) -> Provided:
    """The configured provider's reply; when it gives none, the extractive provider's, marked degraded.

    A streamed reply that breaks off after blocks have been given out is kept as far as it came, as cut short.
    """
    provider = configured()
    started = time.perf_counter()
    if provider is EXTRACTIVE:
        completion = EXTRACTIVE.complete(request)
        metrics.PROVIDER_REQUESTS.labels(EXTRACTIVE.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    connection_lend()
    try:
        with BREAKER.guarding():
            completion = provider.complete(request)
        metrics.PROVIDER_REQUESTS.labels(provider.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    except BreakerOpen:
        failure, partial = "breaker_open", ""
    except ProviderError as error:
        failure, partial = error.code, error.partial
        log.warning("provider.failed", provider=provider.name, code=failure)
    metrics.PROVIDER_REQUESTS.labels(provider.name, failure).inc()
    seconds = time.perf_counter() - started
    if isinstance(request.sink, BlockSink):
        if request.sink.blocks:
            return Provided(_cut_short(provider, request, partial), degraded=True, seconds=seconds, failure=failure)
        request.sink.restart()
    fallback = EXTRACTIVE.complete(replace(request, degraded=True))
    return Provided(fallback, degraded=True, seconds=seconds, failure=failure)


def _cut_short(provider: Provider, request: CompletionRequest, partial: str) -> Completion:
    return Completion(
        text=partial,
        provider=provider.name,
        model="",
        stop_reason="length",
        prompt_tokens=sum(tokens_estimate(message["content"]) for message in request.messages),
        completion_tokens=tokens_estimate(partial),
        tokens_estimated=True,
        passages=tuple(request.passages),
    )
