import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.utils import timezone
from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError, ResponseError

from chat.breakers import Breaker, BreakerOpen
from chat.stores.base import ConversationStore, Message, StoreAway
from chat.stores.sealing import message_seal, messages_open
from chat.stores.waiting import waiting
from onesource.redis import within

T = TypeVar("T")
FAILURES = (RedisError, RedisClusterException, ConnectionInterrupted, OSError)
# One for all that uses Redis, and opened by the first failure: what Redis gives is had elsewhere as well, and each wait
# for a stopped server costs a turn its whole timeout.
BREAKER = Breaker("redis", threshold=1, recovery_seconds=2, failure=lambda error: _is_away(error))


def _is_away(error: BaseException) -> bool:
    """A ResponseError is an answer: of a server that is there, about this one command. (A cluster that is down says so
    by one as well.)"""
    answered = isinstance(error, ResponseError) and not isinstance(error, ClusterDownError)
    return isinstance(error, FAILURES) and not answered


def redis_run(command: Callable[[Any], T], alias: str = "conversations") -> T:
    """`command` with the client of REDIS_URL, under the circuit breaker, and within one read's and one connection's
    timeout in all. Raises BreakerOpen or one of FAILURES; within a turn's `shared` also StoreAway."""
    limit = (settings.REDIS_SOCKET_TIMEOUT_MS + settings.REDIS_CONNECT_TIMEOUT_MS) / 1000
    with waiting("redis", limit) as seconds, BREAKER.guarding(), within(seconds):
        cache: Any = caches[alias]
        return command(cache.client.get_client(write=True))


class RedisStore(ConversationStore):
    """One sorted set a session: the score is the seq, the member a sealed message.

    The key is hash-tagged by session, so that a session's commands stay on one node of a Redis Cluster.
    """

    name = "redis"

    def load(self, session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[Message]:
        if limit <= 0:
            return []
        highest = "+inf" if upto is None else upto
        with self.measured("load"):
            newest_first = self._run(
                lambda client: client.zrevrangebyscore(_key(session_id), highest, "-inf", 0, limit, withscores=True)
            )
        found = [(int(seq), sealed) for sealed, seq in reversed(newest_first)]
        return messages_open(found, session_id, timezone.now().timestamp())

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        if not messages or keep <= 0:
            self.delete(session_id)
            return
        seqs = [message.seq for message in messages]
        with self.measured("append"):
            self._write(session_id, messages, min(seqs), max(seqs), ttl_seconds, keep=keep)

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, upto: int, ttl_seconds: int) -> None:
        with self.measured("replace"):
            try:
                self._write(session_id, messages, "-inf", upto, ttl_seconds)
            except NotASet:
                self._run(lambda client: client.delete(_key(session_id)))
                self._write(session_id, messages, "-inf", upto, ttl_seconds)

    def delete(self, session_id: uuid.UUID) -> None:
        with self.measured("delete"):
            self._run(lambda client: client.delete(_key(session_id)))

    def check(self) -> None:
        # Of a cluster PING asks every node; a key that is not there asks the one that has its slot.
        self._run(lambda client: client.exists(_key(uuid.UUID(int=0))))

    def _write(
        self,
        session_id: uuid.UUID,
        messages: Sequence[Message],
        lowest: int | str,
        highest: int,
        ttl_seconds: int,
        keep: int | None = None,
    ) -> None:
        """`messages` instead of all that is held from seq `lowest` to `highest`, in one transaction."""
        key = _key(session_id)
        default = timezone.now().timestamp() + ttl_seconds
        expiries = {message.seq: message.expires_at or default for message in messages}
        members = {message_seal(message, session_id, expiries[message.seq]): message.seq for message in messages}

        def write(client: Any) -> None:
            pipeline = client.pipeline(transaction=True)
            pipeline.zremrangebyscore(key, lowest, highest)
            if members:
                pipeline.zadd(key, members)
                if keep is not None:
                    pipeline.zremrangebyrank(key, 0, -keep - 1)
                pipeline.expire(key, ttl_seconds)
            pipeline.execute()

        self._run(write)

    def _run(self, command: Callable[[Any], T]) -> T:
        try:
            return redis_run(command)
        except ResponseError as error:
            kind = NotASet if "WRONGTYPE" in str(error) else StoreAway
            raise kind(type(error).__name__) from error
        except (BreakerOpen, *FAILURES) as error:
            raise StoreAway(type(error).__name__) from error


class NotASet(StoreAway):
    """Something else is stored under the session's key."""


def _key(session_id: uuid.UUID) -> str:
    return f"onesource:conv:{{{session_id}}}"
