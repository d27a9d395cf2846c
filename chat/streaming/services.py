import uuid
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from django import db
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from audit import actions
from audit.services import commitment_make, event_record, salt_make
from chat.models import Stream, StreamEvent, Turn
from chat.providers import configured
from chat.recording import flags_facts, session_advance
from chat.services import Prepared
from chat.stores.base import StoreAway
from chat.streaming.buffer import KEPT_SECONDS, Emitted, buffer_append
from chat.streaming.channel import channel_close, channel_of, channel_open
from chat.streaming.ending import ORPHANED, TurnEnded, question_seal, stream_abort
from chat.streaming.producer import Callbacks, producer_start
from onesource.errors import NotFound, Unavailable

log = structlog.get_logger(__name__)
# A producer beats every 2 s; one that has not for this long is taken for dead, if it stays so until the next sweep.
DEAD_SECONDS = 15
SWEEP_LIMIT = 20


def stream_start(prepared: Prepared, *, callbacks: Callbacks, request_id: str) -> uuid.UUID:
    """Records turn.started before the first byte is sent, and lets the producer run.

    `callbacks.done` is called by the producer, or here when there will be none.
    """
    try:
        prepared = _started(prepared)
    except BaseException:
        callbacks.done()
        raise
    turn = prepared.turn
    channel = channel_open(turn.turn_id)
    first = Emitted(1, "started", {"turn_id": str(turn.turn_id), "session_id": str(turn.session_id)})
    # It says nothing that a resuming client does not know.
    with suppress(StoreAway):
        buffer_append(turn.turn_id, first)
    channel.put(first)
    try:
        producer_start(prepared, channel, callbacks=callbacks, request_id=request_id)
    except RuntimeError as error:
        channel_close(turn.turn_id)
        callbacks.done()
        stream_abort(Stream.objects.get(pk=turn.turn_id), ended="failed", events=[first], last_n=1)
        raise Unavailable("No further stream can be run at the moment. Please try again.", retry_after=2) from error
    return turn.turn_id


def _started(prepared: Prepared) -> Prepared:
    turn = prepared.turn
    provider = configured()
    salt = salt_make()
    with transaction.atomic():
        event_record(
            kind=actions.TURN_STARTED,
            stream=f"session:{turn.session_id}",
            stream_seq=session_advance(turn, timezone.now()).event_count,
            actor_ref=turn.subject.ref,
            facts={
                "turn_id": str(turn.turn_id),
                "session_id": str(turn.session_id),
                "endpoint": turn.endpoint,
                "pipeline": turn.pipeline,
                "question": commitment_make(salt, turn.question).facts(),
                "flags": flags_facts(turn),
            },
        )
        Stream.objects.create(
            turn_id=turn.turn_id,
            session_id=turn.session_id,
            subject_ref=turn.subject.ref,
            endpoint=turn.endpoint,
            pipeline=turn.pipeline,
            provider=provider.name,
            model=provider.model[:200],
            arms=turn.arms,
            sealed=question_seal(turn.turn_id, turn.question, salt),
        )
    return prepared.salted(salt)


def stream_of(subject_ref: str, turn_id: uuid.UUID) -> Stream | None:
    """The caller's stream; None for a turn of theirs that was not streamed, or not lately. Raises NotFound."""
    stream = Stream.objects.filter(pk=turn_id, subject_ref=subject_ref).first()
    if stream is None and not Turn.objects.filter(pk=turn_id, session__subject_ref=subject_ref).exists():
        raise NotFound("There is no such turn, or it is not yours.", code="turn_not_found")
    return stream


def stream_stop(*, subject_ref: str, turn_id: uuid.UUID) -> None:
    """Asks for the end of a running stream, which its producer heeds at once here, within half a second elsewhere.

    Raises NotFound, and TurnEnded for a turn that has ended.
    """
    stream_of(subject_ref, turn_id)
    if not Stream.objects.filter(pk=turn_id, status=Stream.Status.RUNNING).update(stop_at=Now()):
        raise TurnEnded("This turn has ended; there is nothing to stop.")
    channel = channel_of(turn_id)
    if channel:
        channel.stop.set()


def stream_watched(turn_id: uuid.UUID) -> None:
    Stream.objects.filter(pk=turn_id, status=Stream.Status.RUNNING).update(watched_at=Now())


def streams_silent() -> dict[uuid.UUID, datetime]:
    """Running streams without a sign of life for DEAD_SECONDS, each with its last one."""
    dead = Now() - timedelta(seconds=DEAD_SECONDS)
    silent = Stream.objects.filter(status=Stream.Status.RUNNING, heartbeat_at__lt=dead)
    # In any order: those that cannot be ended must not stand before the others each time.
    return dict(silent.order_by("?").values_list("pk", "heartbeat_at")[:SWEEP_LIMIT])


def streams_sweep(silent_before: dict[uuid.UUID, datetime]) -> dict[uuid.UUID, datetime]:
    """Ends the turns whose worker died, forgets old streams, and returns what is silent now, for the next sweep.

    Only what was silent before as well: after an outage of the database every producer seems dead for a moment.
    """
    silent = streams_silent()
    for turn_id, heartbeat in silent.items():
        if silent_before.get(turn_id) == heartbeat and channel_of(turn_id) is None:
            stream = Stream.objects.filter(pk=turn_id).first()
            if stream:
                _end_dead(stream, heartbeat)
    over = Now() - timedelta(seconds=KEPT_SECONDS)
    StreamEvent.objects.filter(created_at__lt=over).delete()
    Stream.objects.filter(started_at__lt=over).exclude(status=Stream.Status.RUNNING).delete()
    return silent


def _end_dead(stream: Stream, heartbeat: datetime) -> None:
    try:
        stream_abort(stream, ended=ORPHANED, heartbeat=heartbeat)
    except db.Error:
        raise
    except StoreAway as error:
        log.info("stream.not_ended_yet", turn_id=str(stream.pk), cause=str(error))
    except Exception as error:
        log.error("stream.not_ended", turn_id=str(stream.pk), exc_info=error)
