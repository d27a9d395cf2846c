import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit import actions
from audit.services import event_record
from chat.guard import guard_blocks
from chat.models import Session, Stream, StreamEvent
from chat.pipeline.turn import Drafted, TurnInput
from chat.providers import Completion
from chat.recording import turn_record
from chat.services import Prepared, turn_count
from chat.stores.base import StoreAway
from chat.streaming.buffer import KEPT_SECONDS, question_open, question_seal, stream_buffer
from chat.streaming.producer import producer_start
from flags import snapshot
from flags.snapshot import Subject
from onesource.errors import Conflict, NotFound

# A producer beats every 2 s; one that has not for this long is dead, and its turn is ended by whoever finds it.
DEAD_SECONDS = 15
SWEEP_LIMIT = 20


def stream_start(prepared: Prepared, *, settle: Callable[[], None], request_id: str) -> uuid.UUID:
    """Records turn.started before the first byte is sent, and lets the producer run."""
    turn = prepared.turn
    now = timezone.now()
    with transaction.atomic():
        seq = _event_seq(turn)
        event_record(
            kind=actions.TURN_STARTED,
            stream=f"session:{turn.session_id}",
            stream_seq=seq,
            actor_ref=turn.subject.ref,
            facts={
                "turn_id": str(turn.turn_id),
                "session_id": str(turn.session_id),
                "endpoint": turn.endpoint,
                "question_chars": len(turn.question),
            },
            at=now,
        )
        Stream.objects.create(
            turn_id=turn.turn_id,
            session_id=turn.session_id,
            subject_ref=turn.subject.ref,
            endpoint=turn.endpoint,
            question=question_seal(turn.turn_id, turn.question),
            started_at=now,
            heartbeat_at=now,
            watched_at=now,
        )
    producer_start(prepared, settle=settle, request_id=request_id)
    return turn.turn_id


def _event_seq(turn: TurnInput) -> int:
    now = timezone.now()
    mine = Session.objects.filter(pk=turn.session_id, subject_ref=turn.subject.ref, deleted_at=None)
    if not mine.update(event_count=F("event_count") + 1):
        Session.objects.bulk_create(
            [Session(id=turn.session_id, subject_ref=turn.subject.ref, created_at=now, last_turn_at=now)],
            ignore_conflicts=True,
        )
        if not mine.update(event_count=F("event_count") + 1):
            raise NotFound("This session does not exist or is not yours.", code="session_not_found")
    return mine.values_list("event_count", flat=True).get()


def stream_of(subject_ref: str, turn_id: uuid.UUID) -> Stream:
    """The caller's stream. Raises NotFound for a stranger's and for one that is over and forgotten."""
    stream = Stream.objects.filter(pk=turn_id, subject_ref=subject_ref).first()
    if stream is None:
        raise NotFound("There is no such stream, or it is not yours.", code="stream_not_found")
    return stream


def stream_stop(*, subject_ref: str, turn_id: uuid.UUID) -> None:
    """Asks for the end of a running stream; its producer obeys within a quarter of a second. Raises Conflict."""
    stream_of(subject_ref, turn_id)
    if not Stream.objects.filter(pk=turn_id, status=Stream.Status.RUNNING).update(stop_at=timezone.now()):
        raise Conflict("This turn has ended.", code="turn_ended")


def stream_watched(turn_id: uuid.UUID) -> None:
    Stream.objects.filter(pk=turn_id, status=Stream.Status.RUNNING).update(watched_at=timezone.now())


def streams_sweep() -> int:
    """Ends the turns whose worker died, forgets old streams, and returns how many it ended."""
    dead = timezone.now() - timedelta(seconds=DEAD_SECONDS)
    swept = 0
    for stream in Stream.objects.filter(status=Stream.Status.RUNNING, heartbeat_at__lt=dead)[:SWEEP_LIMIT]:
        swept += stream_abort(stream)
    over = timezone.now() - timedelta(seconds=KEPT_SECONDS)
    StreamEvent.objects.filter(created_at__lt=over).delete()
    Stream.objects.filter(started_at__lt=over).exclude(status=Stream.Status.RUNNING).delete()
    return swept


def stream_abort(stream: Stream) -> bool:
    """Records a dead worker's turn as aborted, with the blocks that were sent. False when somebody else has ended it."""
    flags = snapshot.current()
    blocks = []
    try:
        for emitted in stream_buffer().read(stream.pk, 0):
            if emitted.event == "block":
                blocks.append(emitted.data["block"])
    except StoreAway:
        # What was sent cannot be told any more; that it was begun and not finished can.
        blocks = []
    turn = TurnInput(
        turn_id=stream.pk,
        session_id=stream.session_id,
        question=question_open(stream.pk, bytes(stream.question)),
        endpoint="enhanced" if stream.endpoint == "enhanced" else "chat",
        history=[],
        flags=flags,
        subject=Subject(stream.subject_ref),
    )
    drafted = Drafted(
        pipeline="unified",
        completion=Completion(text="", provider="", model=""),
        guarded=guard_blocks(blocks),
        degraded=False,
        provider_seconds=0.0,
        ended="worker_died",
    )

    def settle() -> None:
        claimed = Stream.objects.filter(pk=stream.pk, status=Stream.Status.RUNNING, heartbeat_at=stream.heartbeat_at)
        if not claimed.update(status=Stream.Status.ABORTED):
            raise Conflict("This turn was ended elsewhere.", code="turn_ended")

    try:
        recorded = turn_record(turn=turn, drafted=drafted, context="none", started=time.perf_counter(), settle=settle)
    except (Conflict, NotFound):
        return False
    turn_count(recorded.turn, drafted, 0.0)
    return True
