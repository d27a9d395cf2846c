import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from audit import actions
from audit.erasing import Erased, content_erase
from audit.services import event_record
from chat import metrics
from chat.failures import failure_record
from chat.idempotency import claims_forget
from chat.models import Session, Stream, Turn
from chat.pipeline.legacy import legacy_draft
from chat.pipeline.turn import Drafted, Endpoint, TurnInput
from chat.pipeline.unified import unified_draft
from chat.recording import retention, turn_record
from chat.selectors import session_for
from chat.stores.conversation import History, history_delete, history_load
from chat.stores.waiting import TurnWaits, shared
from chat.streaming.buffer import buffer_delete
from flags.snapshot import Snapshot, Subject
from onesource.errors import NotFound

log = structlog.get_logger(__name__)
# By then no turn that was under way can append any more.
HOT_ERASE_AGAIN = timedelta(minutes=1)
HOT_ERASE_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Prepared:
    """A turn that may begin: whose it is and what went before has been settled."""

    turn: TurnInput
    context: str
    started: float

    def salted(self, salt: bytes) -> "Prepared":
        return replace(self, turn=replace(self.turn, salt=salt))


def turn_prepare(
    *, subject: Subject, question: str, session_id: uuid.UUID | None, endpoint: Endpoint, flags: Snapshot
) -> Prepared:
    """Raises NotFound for a session that is a stranger's or was deleted."""
    started = time.perf_counter()
    session = session_for(subject.ref, session_id) if session_id else None
    waits = TurnWaits()
    with shared(waits):
        history = _history(session, flags)
    turn = TurnInput(
        turn_id=uuid.uuid4(),
        session_id=session_id or uuid.uuid4(),
        question=question,
        endpoint=endpoint,
        history=history.messages,
        flags=flags,
        subject=subject,
        waits=waits,
    )
    structlog.contextvars.bind_contextvars(turn_id=str(turn.turn_id))
    return Prepared(turn, history.outcome, started)


def turn_answer(prepared: Prepared, *, settle: Callable[[], None] | None = None) -> dict[str, Any]:
    """The recorded answer. A database that is away rises: an answer that cannot be recorded is not given."""
    turn = prepared.turn
    try:
        drafted = unified_draft(turn) if turn.pipeline == "unified" else legacy_draft(turn)
        recorded = turn_record(
            turn=turn, drafted=drafted, context=prepared.context, started=prepared.started, settle=settle
        )
    except Exception as error:
        failure_record(turn, error)
        raise
    turn_count(recorded.turn, drafted, time.perf_counter() - prepared.started)
    return recorded.answer


def _history(session: Session | None, flags: Snapshot) -> History:
    if session is None:
        return History([], "none")
    expired = session.last_turn_at + retention(flags) < timezone.now()
    return history_load(session.id, turn_count=session.turn_count, expired=expired, flags=flags)


def turn_count(turn: Turn, drafted: Drafted, total: float) -> None:
    metrics.TURNS.labels(turn.endpoint, turn.pipeline, turn.outcome, turn.track).inc()
    if turn.first_token_us is not None:
        metrics.FIRST_TOKEN_SECONDS.observe(turn.first_token_us / 1e6)
    if not drafted.ended:
        # How long somebody let an answer go on, and where it was cut, measures neither us nor the model.
        metrics.TURN_SECONDS.labels(turn.endpoint, turn.track).observe(total)
        metrics.OVERHEAD_SECONDS.observe(max(total - drafted.provider_seconds, 0))
        _count_guarded(turn, drafted)
    log.info(
        "turn.aborted" if drafted.ended else "turn.completed",
        endpoint=turn.endpoint,
        pipeline=turn.pipeline,
        outcome=turn.outcome,
        turn=turn.seq,
        question_chars=turn.question_chars,
        answer_chars=turn.answer_chars,
        codes=turn.repair_codes,
        total_ms=round(total * 1000, 1),
        **({"ended": drafted.ended} if drafted.ended else {}),
    )


def _count_guarded(turn: Turn, drafted: Drafted) -> None:
    metrics.GUARD_ANSWERS.labels(drafted.guarded.outcome).inc()
    for code in turn.repair_codes:
        metrics.GUARD_REPAIRS.labels(code).inc()
    if drafted.enforcement_lost:
        metrics.ENFORCEMENT_LOST.labels(turn.provider).inc()
        log.warning("provider.enforcement_lost", provider=turn.provider, codes=turn.repair_codes)


def session_delete(*, subject: Subject, session_id: uuid.UUID, actor_ref: str | None = None) -> Erased:
    """Erases a session's texts everywhere and keeps the evidence; what a legal hold keeps is out of its owner's sight.

    The actor is the owner unless it is said who else. Raises NotFound.
    """
    session_for(subject.ref, session_id, required=True)
    with transaction.atomic():
        now = timezone.now()
        mine = Session.objects.filter(pk=session_id, subject_ref=subject.ref, deleted_at=None)
        if not mine.update(deleted_at=now, hot_erase_since=now, event_count=F("event_count") + 1):
            raise NotFound("This session does not exist or is not yours.", code="session_not_found")
        claims_forget(subject_ref=subject.ref, session_id=session_id)
        erased = content_erase(session_id=session_id)
        streams = _streams_forget(session_id)
        event_record(
            kind=actions.SESSION_DELETED,
            stream=f"session:{session_id}",
            stream_seq=Session.objects.values_list("event_count", flat=True).get(pk=session_id),
            actor_ref=subject.ref if actor_ref is None else actor_ref,
            facts={"session_id": str(session_id), "turns_erased": erased.turns, "turns_held": erased.held},
        )
        transaction.on_commit(lambda: history_delete(session_id), robust=True)
        for turn_id in streams:
            transaction.on_commit(partial(buffer_delete, turn_id), robust=True)
    return erased


def sessions_erase_hot() -> None:
    """Deletes what the hot stores may still hold of deleted sessions: a store was away, or a turn that was recorded
    just before appended just after."""
    due = Session.objects.filter(hot_erase_since__lt=timezone.now() - HOT_ERASE_AGAIN)
    for session_id in due.order_by("?").values_list("pk", flat=True)[:HOT_ERASE_LIMIT]:
        if not history_delete(session_id):
            return
        Session.objects.filter(pk=session_id).update(hot_erase_since=None)


def _streams_forget(session_id: uuid.UUID) -> list[uuid.UUID]:
    """Asks running streams of the session to end, deletes the others, and returns the turns of both."""
    streams = Stream.objects.filter(session_id=session_id)
    turns = list(streams.values_list("pk", flat=True))
    streams.filter(status=Stream.Status.RUNNING).update(stop_at=Now())
    streams.exclude(status=Stream.Status.RUNNING).delete()
    return turns
