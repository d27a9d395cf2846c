"""The provider call: outside any database transaction, under one deadline and a circuit breaker."""

import time
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


def provide(request: CompletionRequest, sink: BlockSink | None = None) -> Provided:
    """The configured provider's reply; when it gives none, the extractive provider's, marked degraded.

    `sink` is given the text while it comes, and may end the reply. A reply that breaks off after blocks have been sent
    is kept as far as it came, as cut short: another one could not be the same.
    """
    request = replace(request, sink=sink)
    provider = configured()
    started = time.perf_counter()
    try:
        if provider is EXTRACTIVE:
            completion = EXTRACTIVE.complete(request)
        else:
            connection_lend()
            with BREAKER.guarding():
                completion = provider.complete(request)
        metrics.PROVIDER_REQUESTS.labels(provider.name, "ok").inc()
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started)
    except StreamEnded as ended:
        metrics.PROVIDER_REQUESTS.labels(provider.name, ended.reason).inc()
        completion = _cut_short(provider, request, sink)
        return Provided(completion, degraded=False, seconds=time.perf_counter() - started, ended=ended.reason)
    except BreakerOpen:
        failure = "breaker_open"
    except ProviderError as error:
        failure = error.code
        log.warning("provider.failed", provider=provider.name, code=failure)
    metrics.PROVIDER_REQUESTS.labels(provider.name, failure).inc()
    seconds = time.perf_counter() - started
    if sink and sink.blocks:
        return Provided(_cut_short(provider, request, sink), degraded=True, seconds=seconds, failure=failure)
    return _instead(request, sink, failure, seconds)


def _instead(request: CompletionRequest, sink: BlockSink | None, failure: str, seconds: float) -> Provided:
    if sink:
        sink.restart()
    ended = ""
    try:
        completion = EXTRACTIVE.complete(replace(request, degraded=True))
    except StreamEnded as error:
        ended = error.reason
        completion = _cut_short(EXTRACTIVE, request, sink)
    return Provided(completion, degraded=True, seconds=seconds, failure=failure, ended=ended)


def _cut_short(provider: Provider, request: CompletionRequest, sink: BlockSink | None) -> Completion:
    received = sink.received if sink else ""
    return Completion(
        text=received,
        provider=provider.name,
        model=provider.model[:200],
        stop_reason="length",
        prompt_tokens=sum(tokens_estimate(message["content"]) for message in request.messages),
        completion_tokens=tokens_estimate(received),
        tokens_estimated=True,
        # The extractive provider's marks mean what it found itself, which was not told.
        passages=() if provider is EXTRACTIVE else tuple(request.passages),
    )
