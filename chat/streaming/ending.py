"""How a stream ends when its own producer does not record it: a fault, a dead worker, an erased session."""

import json
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit import actions
from audit.content import ContentUnreadable
from audit.services import commitment_make, event_record, salt_make
from chat.failures import failure_keep
from chat.guard import guard_blocks
from chat.models import Session, Stream, StreamEvent
from chat.pipeline.turn import Drafted, TurnInput
from chat.providers import Completion
from chat.recording import turn_record
from chat.services import turn_count
from chat.stores.base import StoreAway
from chat.streaming.buffer import (
    KEPT_SECONDS,
    Emitted,
    buffer_delete,
    buffer_read,
    buffer_read_all,
    turn_seal,
    turn_unseal,
)
from flags import snapshot
from flags.snapshot import Subject
from onesource.errors import Conflict, NotFound

log = structlog.get_logger(__name__)
ORPHANED = "orphaned"
UNREADABLE = "(The question cannot be read any more.)"


class TurnEnded(Conflict):
    code = "turn_ended"
    title = "This turn has ended"


def stream_claim(turn_id: uuid.UUID, *, status: str, last_n: int | None, heartbeat: datetime | None = None) -> None:
    """Within the transaction that records the end. Raises TurnEnded when somebody else has recorded it.

    With `heartbeat` only if that is still the last sign of life.
    """
    running = Stream.objects.filter(pk=turn_id, status=Stream.Status.RUNNING)
    if heartbeat is not None:
        # Not by equality: SQLite compares texts, and its clock writes fewer digits than Django.
        running = running.filter(heartbeat_at__lte=heartbeat)
    if not running.update(status=status, last_n=last_n):
        raise TurnEnded()


def question_seal(turn_id: uuid.UUID, question: str, salt: bytes) -> bytes:
    return turn_seal(turn_id, json.dumps([question, salt.hex()]).encode(), b"question")


def question_open(stream: Stream) -> tuple[str, bytes]:
    try:
        question, salt = json.loads(turn_unseal(stream.pk, bytes(stream.sealed), b"question"))
    except ContentUnreadable:
        return UNREADABLE, salt_make()
    return question, bytes.fromhex(salt)


def stream_abort(
    stream: Stream,
    *,
    ended: str,
    events: Sequence[Emitted] | None = None,
    last_n: int | None = None,
    heartbeat: datetime | None = None,
) -> bool:
    """Records a turn as aborted, with the blocks that were sent. False when somebody else has recorded its end.

    Without `events` they are read from the buffer; StoreAway while some may be where nobody can look now.
    """
    with structlog.contextvars.bound_contextvars(turn_id=str(stream.pk)):
        failure = ""
        if events is None:
            events, failure = _sent(stream)
        return _abort(stream, events, ended=ended, failure=failure, last_n=last_n, heartbeat=heartbeat)


def _sent(stream: Stream) -> tuple[list[Emitted], str]:
    try:
        return buffer_read_all(stream.pk), ""
    except StoreAway:
        if (timezone.now() - stream.started_at).total_seconds() < KEPT_SECONDS:
            raise
    # By now they have expired there.
    return buffer_read(stream.pk), "buffer_lost"


def _abort(
    stream: Stream,
    events: Sequence[Emitted],
    *,
    ended: str,
    failure: str,
    last_n: int | None,
    heartbeat: datetime | None,
) -> bool:
    if last_n is None:
        last = events[-1] if events else None
        # An `error` that was sent stays the last event.
        last_n = 2 if last is None else last.n if last.event == "error" else last.n + 1
    question, salt = question_open(stream)
    turn = TurnInput(
        turn_id=stream.pk,
        session_id=stream.session_id,
        question=question,
        endpoint="enhanced" if stream.endpoint == "enhanced" else "chat",
        history=[],
        flags=snapshot.current(),
        subject=Subject(stream.subject_ref),
        salt=salt,
        begun_arms=stream.arms,
    )
    drafted = Drafted(
        pipeline="legacy" if stream.pipeline == "legacy" else "unified",
        completion=Completion(text="", provider=stream.provider, model=stream.model),
        guarded=guard_blocks([emitted.data["block"] for emitted in events if emitted.event == "block"]),
        degraded=False,
        provider_seconds=0.0,
        ended=ended,
        failure=failure,
    )
    started = time.perf_counter() - max((timezone.now() - stream.started_at).total_seconds(), 0)

    def settle() -> None:
        stream_claim(stream.pk, status=Stream.Status.ABORTED, last_n=last_n, heartbeat=heartbeat)

    try:
        recorded = turn_record(turn=turn, drafted=drafted, context="none", started=started, settle=settle)
    except TurnEnded:
        return False
    except NotFound:
        return _end_erased(stream, question, salt)
    turn_count(recorded.turn, drafted, recorded.turn.total_us / 1e6)
    if ended == ORPHANED:
        # A worker that the canary takes down can say so no more.
        failure_keep(turn, ORPHANED)
    return True


def _end_erased(stream: Stream, question: str, salt: bytes) -> bool:
    """The session was erased while the turn ran: that it ended stays as evidence, nothing of its texts does."""
    try:
        with transaction.atomic():
            session = Session.objects.filter(pk=stream.session_id)
            session.update(event_count=F("event_count") + 1)
            stream_claim(stream.pk, status=Stream.Status.ABORTED, last_n=None)
            event_record(
                kind=actions.TURN_ABORTED,
                stream=f"session:{stream.session_id}",
                stream_seq=session.values_list("event_count", flat=True).get(),
                actor_ref=stream.subject_ref,
                facts={
                    "turn_id": str(stream.pk),
                    "session_id": str(stream.session_id),
                    "endpoint": stream.endpoint,
                    "pipeline": stream.pipeline,
                    "outcome": "aborted",
                    "ended": "session_deleted",
                    "question": commitment_make(salt, question).facts(),
                },
            )
            Stream.objects.filter(pk=stream.pk).update(sealed=b"")
            StreamEvent.objects.filter(turn_id=stream.pk).delete()
            # Redis is not waited for with the session's row locked.
            transaction.on_commit(partial(buffer_delete, stream.pk), robust=True)
    except TurnEnded:
        # What its producer has sent since then, unaware of it, must go as well.
        buffer_delete(stream.pk)
        return False
    return True
