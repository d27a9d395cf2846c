"""Runs a streamed turn apart from the response that shows it: a dropped connection does not lose the answer."""

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import structlog
from django import db
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from chat.connections import connection_lend
from chat.models import Stream
from chat.pipeline.sink import BlockSink, StreamEnded
from chat.services import Prepared, turn_answer
from chat.stores.base import StoreAway
from chat.streaming.buffer import Emitted, buffer_append
from chat.streaming.channel import Channel, channel_close
from chat.streaming.ending import TurnEnded, stream_abort, stream_claim
from onesource.errors import ProblemError, problem_body, problem_of

log = structlog.get_logger(__name__)
WATCH_SECONDS = 0.5
HEARTBEAT_SECONDS = 2.0
# A database that is away may take its whole timeout to say so, and the reply is not read meanwhile.
AWAY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """`settle` runs within the recording transaction, `failed` when there will be no answer, `done` at the very end."""

    settle: Callable[[], None]
    failed: Callable[[], None]
    done: Callable[[], None]


def producer_start(prepared: Prepared, channel: Channel, *, callbacks: Callbacks, request_id: str) -> None:
    """Raises RuntimeError when the process can have no further thread."""
    producer = Producer(prepared, channel, callbacks=callbacks, request_id=request_id)
    context = contextvars.copy_context()
    # Not a daemon: a worker that is told to stop lets its turns end, within gunicorn's graceful_timeout.
    threading.Thread(target=context.run, args=(producer.run,), name=f"turn-{prepared.turn.turn_id}").start()


class Producer:
    def __init__(self, prepared: Prepared, channel: Channel, *, callbacks: Callbacks, request_id: str) -> None:
        self._turn_id = prepared.turn.turn_id
        self._channel = channel
        self._sink = BlockSink(emit=self._emit_block, watch=self._watch)
        self._prepared = replace(prepared, turn=replace(prepared.turn, sink=self._sink))
        self._callbacks = callbacks
        self._request_id = request_id
        # Event 1, `started`, was emitted with the stream's row.
        self._n = 1
        self._looked_at = time.monotonic()
        self._beat_at = time.monotonic()
        self._watched: Any = None
        self._watched_seen_at = time.monotonic()
        self._called_off = False

    def run(self) -> None:
        try:
            answer = turn_answer(self._prepared, settle=self._settle)
            self._emit("answer", answer)
        except TurnEnded:
            # Taken for dead, and recorded so, while the process stood still; what is on record counts.
            log.warning("stream.ended_elsewhere")
        except Exception as error:  # noqa: BLE001  (the top of a thread: the client is told, and the log)
            self._fail(error)
        finally:
            try:
                channel_close(self._turn_id)
                connection.close()
            finally:
                self._callbacks.done()

    def _settle(self) -> None:
        """In the recording transaction: whoever turns the row from running to its end has the right to record."""
        ended = Stream.Status.ABORTED if self._called_off else Stream.Status.COMPLETED
        stream_claim(self._turn_id, status=ended, last_n=self._n + 1)
        self._callbacks.settle()

    def _fail(self, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            log.error("stream.failed", exc_info=error)
            problem = ProblemError("The fault is recorded under the request_id.")
        else:
            log.warning("stream.not_answered", code=problem.code, cause=type(error.__cause__ or error).__name__)
        # Before the client hears of it, whose next try may come at once.
        with suppress(db.Error):
            self._callbacks.failed()
        self._emit("error", problem_body(problem, self._request_id))
        try:
            stream = Stream.objects.get(pk=self._turn_id)
            stream_abort(stream, ended="failed", last_n=self._n, events=self._channel.all())
        except Exception as cause:  # noqa: BLE001  (most likely the database is away, which brought us here)
            log.warning("stream.left_to_sweeper", cause=type(cause).__name__)

    def _emit_block(self, index: int, block: dict[str, Any]) -> bool:
        return self._emit("block", {"index": index, "block": block}, needs_buffer=True)

    def _emit(self, event: str, data: dict[str, Any], *, needs_buffer: bool = False) -> bool:
        # Its number is used up also when the buffer fails: the write may take effect all the same, later.
        self._n += 1
        emitted = Emitted(self._n, event, data)
        try:
            buffer_append(self._turn_id, emitted, earlier=self._channel.all())
        except StoreAway as error:
            log.warning("stream.buffer_away", cause=str(error))
            if needs_buffer:
                return False
        self._channel.put(emitted)
        connection_lend()
        return True

    def _watch(self) -> None:
        """Raises StreamEnded when the turn was stopped, or nobody has watched it for STREAM_RESUME_SECONDS."""
        if self._channel.stop.is_set():
            self._call_off("stopped")
        now = time.monotonic()
        if now - self._looked_at < WATCH_SECONDS:
            return
        self._looked_at = now
        try:
            self._look(now)
        except db.Error as error:
            # The provider's reply is not thrown away for that: the database may be back when it is to be recorded.
            log.warning("stream.unwatched", cause=type(error).__name__)
            self._looked_at = time.monotonic() + AWAY_SECONDS
        finally:
            connection_lend()

    def _call_off(self, reason: str) -> NoReturn:
        self._called_off = True
        self._channel.stop.set()
        raise StreamEnded(reason)

    def _look(self, now: float) -> None:
        row = Stream.objects.filter(pk=self._turn_id).values("status", "stop_at", "watched_at").first()
        if row is None or row["status"] != Stream.Status.RUNNING or row["stop_at"]:
            self._call_off("stopped")
        if row["watched_at"] != self._watched:
            # Compared with itself only, so no two clocks are.
            self._watched, self._watched_seen_at = row["watched_at"], now
        unwatched = min(self._channel.unwatched_seconds(), now - self._watched_seen_at)
        if unwatched > settings.STREAM_RESUME_SECONDS:
            self._call_off("abandoned")
        if now - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat_at = now
            Stream.objects.filter(pk=self._turn_id).update(heartbeat_at=Now())
