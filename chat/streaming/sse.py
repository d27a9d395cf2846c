"""The response side of a stream: server-sent events (WHATWG HTML, 9.2), from whichever worker."""

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import structlog
from django import db
from django.conf import settings

from audit.content import ContentUnreadable
from audit.selectors import content_of, content_read
from chat.connections import connection_lend
from chat.models import Stream
from chat.stores.base import StoreAway
from chat.streaming.buffer import Emitted, buffer_read
from chat.streaming.channel import Channel, channel_of
from chat.streaming.ending import stream_abort
from chat.streaming.services import DEAD_SECONDS, stream_watched
from onesource.errors import Gone, problem_body

log = structlog.get_logger(__name__)
PING = b": ping\n\n"
PING_SECONDS = 10
POLL_SECONDS = 0.1
# Longer than any turn; a response that outlives it lost sight of its stream.
LONGEST_SECONDS = 900
LAST = frozenset({"answer", "error"})


def encode(emitted: Emitted) -> bytes:
    data = json.dumps(emitted.data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {emitted.n}\nevent: {emitted.event}\ndata: {data}\n\n".encode()


class Tail:
    """The events of a stream after number `after`, encoded, as they come, until the last one.

    A comment every 10 s keeps proxies from closing the connection, and shows that the client is still there.
    `close` is called by the server in every case, also for a response that was never begun.
    """

    def __init__(self, turn_id: uuid.UUID, *, after: int, request_id: str, release: Callable[[], None]) -> None:
        self._turn_id = turn_id
        self._after = after
        self._request_id = request_id
        self._release = release
        self._channel = channel_of(turn_id)
        if self._channel:
            self._channel.attach()
        self._chunks = self._all()
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._chunks.close()
        if self._channel:
            self._channel.detach()
        connection_lend()
        self._release()

    def _all(self) -> Generator[bytes]:
        # What the request has asked the database is done; waiting needs no connection of the pool.
        connection_lend()
        if not self._channel:
            log.info("stream.tailed_elsewhere", after=self._after)
        if self._after:
            # The server sends the response's head with its first part, and what is to come may be long in coming.
            yield PING
        if self._channel:
            yield from self._local(self._channel)
        if self._channel is None or not self._over:
            yield from self._remote()

    _over = False

    def _sent(self, emitted: Emitted) -> bytes:
        self._after = emitted.n
        self._over = emitted.event in LAST
        return encode(emitted)

    def _local(self, channel: Channel) -> Iterator[bytes]:
        open_ = True
        while open_ and not self._over:
            events, open_ = channel.after(self._after, seconds=PING_SECONDS)
            for emitted in events:
                yield self._sent(emitted)
            if not events and open_:
                yield PING

    def _remote(self) -> Iterator[bytes]:
        """Out of the buffer, and when that has no end, out of the record."""
        view = _View(self._turn_id)
        pinged = begun = time.monotonic()
        while not self._over and time.monotonic() - begun < LONGEST_SECONDS:
            # The state before the events: what had ended then has no more of them.
            ended = view.ended()
            events = buffer_read(self._turn_id, self._after)
            connection_lend()
            before = self._after
            for emitted in events:
                # One that is being put back into the buffer is still to come.
                if emitted.n > self._after + 1 and not ended:
                    break
                yield self._sent(emitted)
            if self._after > before:
                continue
            if ended:
                last = self._recorded(view.last_n)
                if last.n > self._after:
                    yield self._sent(last)
                return
            if time.monotonic() - pinged >= PING_SECONDS:
                pinged = time.monotonic()
                yield PING
            time.sleep(POLL_SECONDS)

    def _recorded(self, last_n: int | None) -> Emitted:
        """What the record says of the turn, for a stream whose own last event cannot be had."""
        try:
            row = content_of(self._turn_id)
            if row is not None:
                return Emitted(last_n or self._after + 1, "answer", content_read(row)["answer"])
        except ContentUnreadable:
            pass
        finally:
            connection_lend()
        gone = Gone("This turn has ended and its answer is no longer held.", code="content_gone")
        return Emitted(last_n or self._after + 1, "error", problem_body(gone, self._request_id))


class _View:
    """A stream that runs elsewhere, as its row shows it; ends it when its worker is seen to be dead."""

    def __init__(self, turn_id: uuid.UUID) -> None:
        self._turn_id = turn_id
        self._heartbeat: Any = None
        self._seen_at = time.monotonic()
        self._watched_at = 0.0
        self.last_n: int | None = None

    def ended(self) -> bool:
        try:
            return self._ended()
        except db.Error as error:
            # What cannot be seen is not dead.
            self._seen_at = time.monotonic()
            log.warning("stream.state_unknown", cause=type(error).__name__)
            return False

    def _ended(self) -> bool:
        stream = Stream.objects.filter(pk=self._turn_id).first()
        if stream is None or stream.status != Stream.Status.RUNNING:
            self.last_n = stream.last_n if stream else None
            return True
        now = time.monotonic()
        if now - self._watched_at >= min(5, settings.STREAM_RESUME_SECONDS / 3):
            self._watched_at = now
            stream_watched(self._turn_id)
        if stream.heartbeat_at != self._heartbeat:
            self._heartbeat, self._seen_at = stream.heartbeat_at, now
        elif now - self._seen_at > DEAD_SECONDS:
            # Where the buffer cannot be read, somebody records it later.
            with suppress(StoreAway):
                stream_abort(stream, ended="orphaned", heartbeat=self._heartbeat)
        return False
