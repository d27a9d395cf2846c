"""Runs a streamed turn apart from the response that shows it: a dropped connection does not lose the answer."""

import contextvars
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from django.utils import timezone

from chat.connections import connection_lend
from chat.models import Stream
from chat.pipeline.sink import BlockSink, StreamEnded
from chat.services import Prepared, turn_answer
from chat.stores.base import StoreAway
from chat.streaming.buffer import Emitted, StreamBuffer, stream_buffer
from onesource.errors import Conflict, ProblemError, problem_body, problem_of

log = structlog.get_logger(__name__)
WATCH_SECONDS = 0.25
HEARTBEAT_SECONDS = 2.0
_running: dict[uuid.UUID, threading.Condition] = {}


def producer_start(prepared: Prepared, *, settle: Callable[[], None], request_id: str) -> None:
    _running[prepared.turn.turn_id] = threading.Condition()
    producer = Producer(prepared, settle=settle, request_id=request_id)
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(producer.run,), name=f"turn-{prepared.turn.turn_id}", daemon=True).start()


def wait_for_more(turn_id: uuid.UUID, seconds: float) -> None:
    """Until the producer has emitted something, or `seconds`; only the time when it runs in another process."""
    condition = _running.get(turn_id)
    if condition is None:
        time.sleep(seconds)
        return
    with condition:
        condition.wait(seconds)


class Producer:
    def __init__(self, prepared: Prepared, *, settle: Callable[[], None], request_id: str) -> None:
        self._turn_id = prepared.turn.turn_id
        self._sink = BlockSink(emit=self._emit_block, watch=self._watch)
        self._prepared = replace(prepared, turn=replace(prepared.turn, sink=self._sink))
        self._settle = settle
        self._request_id = request_id
        self._buffer: StreamBuffer = stream_buffer()
        self._n = 0
        self._watched_at = self._beat_at = 0.0

    def run(self) -> None:
        try:
            started = {"turn_id": str(self._turn_id), "session_id": str(self._prepared.turn.session_id)}
            self._emit("started", started)
            answer = turn_answer(self._prepared, settle=self._settle_stream)
            self._emit("answer", answer)
        except StreamEnded:
            # Before the provider was asked: there is nothing to record but that it ended; the sweeper does.
            log.info("stream.ended_early")
        except Exception as error:  # noqa: BLE001  (the top of a thread: an error is told to the client, and logged)
            self._fail(error)
        finally:
            _running.pop(self._turn_id, None)
            connection.close()

    def _fail(self, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            log.error("stream.failed", exc_info=error)
            problem = ProblemError("The fault is recorded under the request_id.")
        self._emit("error", problem_body(problem, self._request_id))

    def _settle_stream(self) -> None:
        """In the recording transaction: whoever turns the row from running to its end has the right to record."""
        ended = Stream.Status.COMPLETED
        if not Stream.objects.filter(pk=self._turn_id, status=Stream.Status.RUNNING).update(status=ended):
            raise Conflict("This turn was ended elsewhere.", code="turn_ended")
        self._settle()

    def _emit_block(self, index: int, block: dict[str, Any]) -> None:
        self._emit("block", {"index": index, "block": block})

    def _emit(self, event: str, data: dict[str, Any]) -> None:
        self._n += 1
        try:
            self._buffer.append(self._turn_id, Emitted(self._n, event, data))
        except StoreAway as error:
            # Blocks are a preview; the answer is on record, and the response falls back to it.
            log.warning("stream.buffer_away", cause=str(error))
        connection_lend()
        condition = _running.get(self._turn_id)
        if condition:
            with condition:
                condition.notify_all()

    def _watch(self) -> None:
        """Raises StreamEnded when the turn was stopped or nobody has watched it for STREAM_RESUME_SECONDS."""
        now = time.monotonic()
        if now - self._watched_at < WATCH_SECONDS:
            return
        self._watched_at = now
        row = Stream.objects.filter(pk=self._turn_id).values("status", "stop_at", "watched_at").first()
        if row is None or row["status"] != Stream.Status.RUNNING or row["stop_at"]:
            raise StreamEnded("stopped")
        if (timezone.now() - row["watched_at"]).total_seconds() > settings.STREAM_RESUME_SECONDS:
            raise StreamEnded("abandoned")
        if now - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat_at = now
            Stream.objects.filter(pk=self._turn_id).update(heartbeat_at=timezone.now())
        connection_lend()
