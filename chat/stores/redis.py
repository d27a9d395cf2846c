import base64
import json
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.core.cache import caches
from django.utils import timezone
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError, ResponseError

from audit import content
from chat.breakers import Breaker, BreakerOpen
from chat.stores.base import ConversationStore, Message, StoreAway

T = TypeVar("T")
FAILURES = (RedisError, ConnectionInterrupted, OSError)
# One for all that uses Redis, and opened by the first failure: what Redis gives is had elsewhere as well, and each wait
# for a stopped server costs a turn its whole timeout.
BREAKER = Breaker("redis", threshold=1, recovery_seconds=2, failure=lambda error: _is_away(error))


def _is_away(error: BaseException) -> bool:
    """A ResponseError is an answer: of a server that is there, about this one command."""
    return isinstance(error, FAILURES) and not isinstance(error, ResponseError)


@lru_cache(maxsize=4096)
def _session_key(session_id: uuid.UUID, ring: content.Keyring) -> bytes:
    secret = ring.keys[ring.active]
    return HKDF(hashes.SHA256(), content.KEY_BYTES, None, b"onesource:hot:" + session_id.bytes).derive(secret)


class RedisStore(ConversationStore):
    """One LIST a session, oldest first, each element encrypted: a dump of Redis shows no text.

    The key is hash-tagged by session, so that a session's commands stay on one node of a Redis Cluster.
    """

    name = "redis"

    def __init__(self, alias: str = "conversations") -> None:
        self._alias = alias

    def load(self, session_id: uuid.UUID, limit: int) -> list[Message]:
        if limit <= 0:
            return []
        elements = self._run(lambda client: client.lrange(_key(session_id), -limit, -1))
        now = timezone.now().timestamp()
        opened = [_open(element, session_id) for element in elements]
        return [message for message, expires_at in opened if expires_at > now]

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        self._write(session_id, messages, keep=keep, ttl_seconds=ttl_seconds, fresh=False)

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, ttl_seconds: int) -> None:
        self._write(session_id, messages, keep=len(messages), ttl_seconds=ttl_seconds, fresh=True)

    def delete(self, session_id: uuid.UUID) -> None:
        self._run(lambda client: client.delete(_key(session_id)))

    def check(self) -> None:
        self._run(lambda client: client.ping())

    def _write(
        self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int, fresh: bool
    ) -> None:
        key = _key(session_id)
        expires_at = timezone.now().timestamp() + ttl_seconds
        elements = [_seal(message, session_id, expires_at) for message in messages]

        def write(client: Any) -> None:
            pipeline = client.pipeline(transaction=True)
            if fresh or keep <= 0:
                pipeline.delete(key)
            if elements and keep > 0:
                pipeline.rpush(key, *elements)
                pipeline.ltrim(key, -keep, -1)
                pipeline.expire(key, ttl_seconds)
            pipeline.execute()

        self._run(write)

    def _run(self, command: Callable[[Any], T]) -> T:
        try:
            with BREAKER.guarding():
                cache: Any = caches[self._alias]
                return command(cache.client.get_client(write=True))
        except (BreakerOpen, *FAILURES) as error:
            raise StoreAway(type(error).__name__) from error


def _key(session_id: uuid.UUID) -> str:
    return f"onesource:conv:{{{session_id}}}"


def _seal(message: Message, session_id: uuid.UUID, expires_at: float) -> bytes:
    plaintext = json.dumps([message.seq, message.role, message.text, expires_at], ensure_ascii=False).encode()
    key = _session_key(session_id, content.keyring())
    return base64.b64encode(content.seal(plaintext, key, session_id.bytes))


def _open(element: bytes, session_id: uuid.UUID) -> tuple[Message, float]:
    """The message and when it expires: EXPIRE covers the list as a whole, which each new turn prolongs."""
    try:
        key = _session_key(session_id, content.keyring())
        seq, role, text, expires_at = json.loads(content.unseal(base64.b64decode(element), key, session_id.bytes))
    except (content.ContentUnreadable, ValueError) as error:
        # A rotated key or a foreign write: the record still has it, and the session is rebuilt from there.
        raise StoreAway("unreadable element") from error
    return Message(seq, role, text), expires_at
