import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from knowledge.retrieval import Found

StopReason = Literal["stop", "length", "refusal", "content_filter"]


class ProviderError(Exception):
    """The provider gave no reply. `code` is one of a fixed set; `retryable` says whether trying again can help."""

    def __init__(self, code: str, *, retryable: bool, counts: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.retryable = retryable
        # Whether it speaks of the provider's health; a request refused for its content does not.
        self.counts = counts


class TextSink(ABC):
    """Takes a reply's text while it comes. Both methods may raise to call the reply off; nothing is retried then."""

    @abstractmethod
    def text(self, delta: str) -> None:
        """The next piece of the reply."""

    @abstractmethod
    def tick(self) -> None:
        """Called a few times a second, also while nothing comes."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """`deadline` is a time.monotonic() instant that bounds the whole call, retries included."""

    question: str
    messages: Sequence[dict[str, str]]
    earlier_questions: Sequence[str]
    deadline: float
    passages: Sequence[Found] = ()
    schema: dict[str, Any] | None = None
    degraded: bool = False
    sink: TextSink | None = None

    def remaining(self) -> float:
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True)
class Completion:
    """`passages` are what the [n] marks of the text refer to, first one n=1. `enforced`: the schema was asked for and
    the server said nothing against it. `declined`: the provider says that it does not know."""

    text: str
    provider: str
    model: str
    stop_reason: StopReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens_estimated: bool = False
    enforced: bool = False
    declined: bool = False
    passages: Sequence[Found] = field(default_factory=tuple)


class Provider(ABC):
    name: str
    # As configured; a server may name it more exactly in its reply.
    model: str

    @abstractmethod
    def complete(self, request: CompletionRequest) -> Completion:
        """The whole reply, whose text a `request.sink` has been given piece by piece.

        Raises ProviderError, at the latest when `request.deadline` has passed, and whatever the sink raises.
        """


def tokens_estimate(text: str) -> int:
    """Tokens of a text without the model's vocabulary: about 4 bytes each in English, rounded up."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4
