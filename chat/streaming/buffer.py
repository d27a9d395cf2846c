"""The events of a running stream, kept for minutes so that any worker can send them, again if need be.

The state of a stream (who watches, who asked for its end, whether its producer lives) is a database row; its events go to
Redis where there is one, else to the database, encrypted either way. An event's number is its SSE id.
"""

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.cache import caches

from audit import content
from chat.models import StreamEvent
from chat.stores.base import StoreAway
from chat.stores.redis import FAILURES

KEPT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Emitted:
    """One server-sent event: `n` counts from 1 within the stream."""

    n: int
    event: str
    data: dict[str, Any]


class StreamBuffer(ABC):
    @abstractmethod
    def append(self, turn_id: uuid.UUID, emitted: Emitted) -> None:
        """Raises StoreAway."""

    @abstractmethod
    def read(self, turn_id: uuid.UUID, after: int) -> list[Emitted]:
        """The events with a number over `after`, in order. Raises StoreAway."""


class DatabaseBuffer(StreamBuffer):
    def append(self, turn_id: uuid.UUID, emitted: Emitted) -> None:
        StreamEvent.objects.create(turn_id=turn_id, n=emitted.n, sealed=_seal(turn_id, emitted))

    def read(self, turn_id: uuid.UUID, after: int) -> list[Emitted]:
        rows = StreamEvent.objects.filter(turn_id=turn_id, n__gt=after).order_by("n")
        return [_open(turn_id, bytes(row.sealed)) for row in rows]


class RedisBuffer(StreamBuffer):
    """A LIST a stream: event n stands at index n-1, so that reading on is one LRANGE."""

    def append(self, turn_id: uuid.UUID, emitted: Emitted) -> None:
        key = _key(turn_id)
        try:
            pipeline = self._client().pipeline(transaction=True)
            pipeline.rpush(key, _seal(turn_id, emitted))
            pipeline.expire(key, KEPT_SECONDS)
            pipeline.execute()
        except FAILURES as error:
            raise StoreAway(type(error).__name__) from error

    def read(self, turn_id: uuid.UUID, after: int) -> list[Emitted]:
        try:
            elements: Sequence[bytes] = self._client().lrange(_key(turn_id), after, -1)
        except FAILURES as error:
            raise StoreAway(type(error).__name__) from error
        return [_open(turn_id, element) for element in elements]

    def _client(self) -> Any:
        cache: Any = caches["conversations"]
        return cache.client.get_client(write=True)


def stream_buffer() -> StreamBuffer:
    return RedisBuffer() if settings.REDIS_URL else DatabaseBuffer()


def _key(turn_id: uuid.UUID) -> str:
    return f"onesource:stream:{{{turn_id}}}"


def _stream_key(turn_id: uuid.UUID) -> bytes:
    ring = content.keyring()
    return HKDF(hashes.SHA256(), content.KEY_BYTES, None, b"onesource:stream:" + turn_id.bytes).derive(
        ring.keys[ring.active]
    )


def question_seal(turn_id: uuid.UUID, question: str) -> bytes:
    return content.seal(question.encode("utf-8"), _stream_key(turn_id), b"question:" + turn_id.bytes)


def question_open(turn_id: uuid.UUID, sealed: bytes) -> str:
    return content.unseal(sealed, _stream_key(turn_id), b"question:" + turn_id.bytes).decode("utf-8")


def _seal(turn_id: uuid.UUID, emitted: Emitted) -> bytes:
    plaintext = json.dumps([emitted.n, emitted.event, emitted.data], ensure_ascii=False).encode("utf-8")
    return content.seal(plaintext, _stream_key(turn_id), turn_id.bytes)


def _open(turn_id: uuid.UUID, sealed: bytes) -> Emitted:
    n, event, data = json.loads(content.unseal(sealed, _stream_key(turn_id), turn_id.bytes))
    return Emitted(n, event, data)
