"""What a chat-completions server sends back, whole or as a stream of server-sent events."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from chat.providers.base import ProviderError, TextSink
from chat.providers.transport import deadline_within

# A reply is bounded before it is parsed: 256 KiB of text can be 1.5 MiB of escaped JSON.
BODY_LIMIT = 2 * 1024 * 1024
STREAM_LIMIT = 32 * 1024 * 1024
DRAIN_SECONDS = 0.05


@dataclass(slots=True)
class Reply:
    text: str = ""
    refusal: str = ""
    finish_reason: str = ""
    model: str = ""
    usage: Any = None


def bounded(response: httpx.Response, limit: int = BODY_LIMIT) -> Iterator[bytes]:
    """The body's parts. Raises ProviderError when there is more of it than `limit` bytes."""
    size = 0
    for part in response.iter_bytes():
        size += len(part)
        if size > limit:
            raise ProviderError("oversize", retryable=False)
        yield part


def whole_reply(body: bytes, sink: TextSink | None) -> Reply:
    """Raises ProviderError for anything that is not a chat completion."""
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        reply = Reply(
            text=_text(message.get("content")),
            refusal=_text(message.get("refusal")),
            finish_reason=str(choice.get("finish_reason") or ""),
            model=_name(found.get("model")),
            usage=found.get("usage"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ProviderError("malformed", retryable=True) from None
    if sink and not reply.refusal:
        # Asked for a stream, a server may still answer in one piece.
        sink.text(reply.text)
    return reply


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError
    return value


def _name(value: Any) -> str:
    """A model's name as a server gives it, fit for a column: PostgreSQL's text holds no NUL and no surrogates."""
    return "".join(c for c in value if c.isprintable())[:200] if isinstance(value, str) else ""


class ReplyStream:
    """Collects a streamed reply and passes its text on as it comes."""

    def __init__(self, sink: TextSink | None) -> None:
        self._sink = sink
        self._parts: list[str] = []
        self._reply = Reply()

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def read(self, response: httpx.Response) -> Reply:
        """Raises ProviderError when the stream ends before it says so: the rest is missing, and nobody said why."""
        parts = bounded(response, STREAM_LIMIT)
        done = False
        for line in _lines(parts):
            if not line.startswith(b"data:"):
                continue
            payload = line[5:].strip()
            if payload == b"[DONE]":
                done = True
                break
            self._take(payload)
        if done:
            _drain(parts)
        elif not self._reply.finish_reason:
            raise ProviderError("dropped", retryable=not self._parts)
        self._reply.text = self.text
        return self._reply

    def _take(self, payload: bytes) -> None:
        try:
            found = json.loads(payload)
            failed = "error" in found
            self._reply.model = self._reply.model or _name(found.get("model"))
            self._reply.usage = found.get("usage") or self._reply.usage
            choices = found.get("choices") or [{}]
            self._reply.finish_reason = str(choices[0].get("finish_reason") or self._reply.finish_reason)
            delta = choices[0].get("delta") or {}
            text, refusal = _text(delta.get("content")), _text(delta.get("refusal"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise ProviderError("malformed", retryable=not self._parts) from None
        if failed:
            raise ProviderError("server_error", retryable=not self._parts)
        self._reply.refusal += refusal
        if text:
            self._parts.append(text)
            if self._sink:
                self._sink.text(text)


def _drain(parts: Iterator[bytes]) -> None:
    """What follows the last event is the end of the transfer coding; only a response read to it gives its connection
    back. A server that keeps it open is not waited for."""
    deadline_within(DRAIN_SECONDS)
    with suppress(httpx.HTTPError, ProviderError):
        for _ in parts:
            pass


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Lines at CR, LF or CRLF, as the event-stream format has them; a part may end anywhere.

    A CRLF that is cut in two gives an empty line more, which means nothing here.
    """
    held: list[bytes] = []
    size = 0
    for part in parts:
        first, *others = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        held.append(first)
        size += len(first)
        if others:
            yield b"".join(held)
            yield from others[:-1]
            held, size = others[-1:], len(others[-1])
        if size > BODY_LIMIT:
            raise ProviderError("oversize", retryable=False)
    if size:
        yield b"".join(held)


def usage_counts(usage: Any) -> tuple[int | None, int | None]:
    """Prompt and completion tokens where the server gave them as plausible numbers."""

    def count(name: str) -> int | None:
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None

    return count("prompt_tokens"), count("completion_tokens")
