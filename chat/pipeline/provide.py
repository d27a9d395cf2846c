"""The provider call: outside any database transaction, under one deadline and a circuit breaker."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

import structlog

from chat import metrics
from chat.breakers import Breaker, BreakerOpen
from chat.connections import connection_lend
from chat.pipeline.sink import BlockSink, StreamEnded
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
    # Why the reply was called off from our side, or "".
    ended: str = ""


def provide(request: CompletionRequest) -> Provided:
    """The configured provider's reply; when it gives none, the extractive provider's, marked degraded.

    A streamed reply that breaks off after blocks have been given out is kept as far as it came, as cut short.
    """
    provider = configured()
    started = time.perf_counter()
    failure, partial = "", ""
    try:
        if provider is not EXTRACTIVE:
            connection_lend()
        with BREAKER.guarding() if provider is not EXTRACTIVE else nullcontext():
            completion = provider.complete(request)
        metrics.PROVIDER_REQUESTS.labels(provider.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    except StreamEnded as ended:
        assert isinstance(request.sink, BlockSink)
        completion = _cut_short(provider, request, request.sink.received)
        metrics.PROVIDER_REQUESTS.labels(provider.name, ended.reason).inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started, ended=ended.reason)
    except BreakerOpen:
        failure = "breaker_open"
    except ProviderError as error:
        failure, partial = error.code, error.partial
        log.warning("provider.failed", provider=provider.name, code=failure)
    metrics.PROVIDER_REQUESTS.labels(provider.name, failure).inc()
    return _instead(provider, request, failure, partial, time.perf_counter() - started)


def _instead(provider: Provider, request: CompletionRequest, failure: str, partial: str, seconds: float) -> Provided:
    sink = request.sink
    if isinstance(sink, BlockSink) and sink.blocks:
        return Provided(_cut_short(provider, request, partial), degraded=True, seconds=seconds, failure=failure)
    if isinstance(sink, BlockSink):
        sink.restart()
    try:
        completion = EXTRACTIVE.complete(replace(request, degraded=True))
    except StreamEnded as ended:
        assert isinstance(sink, BlockSink)
        completion = _cut_short(EXTRACTIVE, request, sink.received)
        return Provided(completion, degraded=True, seconds=seconds, failure=failure, ended=ended.reason)
    return Provided(completion, degraded=True, seconds=seconds, failure=failure)


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
