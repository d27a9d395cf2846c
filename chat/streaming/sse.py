"""The response side of a stream: server-sent events out of the buffer, from any worker."""

import json
import time
import uuid
from collections.abc import Iterator

from django.utils import timezone

from audit.selectors import content_of, content_read
from chat.connections import connection_lend
from chat.models import Stream
from chat.stores.base import StoreAway
from chat.streaming.buffer import Emitted, stream_buffer
from chat.streaming.producer import wait_for_more
from chat.streaming.services import DEAD_SECONDS, stream_abort, stream_watched
from onesource.errors import Gone, problem_body

PING_SECONDS = 10
WATCHED_SECONDS = 2
LAST = frozenset({"answer", "error"})
POLL_SECONDS = 0.1
# Numbers of a stream's events are small; the answer read from the record comes after all of them.
RECORDED_N = 1_000_000


def encode(emitted: Emitted) -> bytes:
    data = json.dumps(emitted.data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {emitted.n}\nevent: {emitted.event}\ndata: {data}\n\n".encode()


def tail(turn_id: uuid.UUID, after: int, request_id: str) -> Iterator[bytes]:
    """The events after number `after`, as they come, until the last one. A comment every 10 s keeps proxies from
    closing the connection, and shows us that the client is still there."""
    buffer = stream_buffer()
    pinged = time.monotonic()
    watched = 0.0
    while True:
        now = time.monotonic()
        if now - watched >= WATCHED_SECONDS:
            stream_watched(turn_id)
            watched = now
        # The state before the events: what is ended then has no more of them.
        over = _ended(turn_id)
        try:
            events = buffer.read(turn_id, after)
        except StoreAway:
            events = []
        connection_lend()
        for emitted in events:
            after = emitted.n
            yield encode(emitted)
            if emitted.event in LAST:
                return
        if over and not events:
            yield encode(_recorded(turn_id, request_id))
            return
        if now - pinged >= PING_SECONDS:
            pinged = now
            yield b": ping\n\n"
        if not events:
            wait_for_more(turn_id, POLL_SECONDS)


def _ended(turn_id: uuid.UUID) -> bool:
    stream = Stream.objects.filter(pk=turn_id).first()
    if stream is None or stream.status != Stream.Status.RUNNING:
        return True
    if (timezone.now() - stream.heartbeat_at).total_seconds() < DEAD_SECONDS:
        return False
    stream_abort(stream)
    return True


def _recorded(turn_id: uuid.UUID, request_id: str) -> Emitted:
    """What the record says of the turn, for a stream whose own last event cannot be had."""
    row = content_of(turn_id)
    if row is None:
        gone = Gone("This turn has ended and its answer is no longer held.", code="content_gone")
        return Emitted(RECORDED_N, "error", problem_body(gone, request_id))
    return Emitted(RECORDED_N, "answer", content_read(row)["answer"])
