"""The record of a turn: event, facts, encrypted content and the session's counters, in one transaction."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from audit import actions
from audit.content import ContentUnreadable
from audit.services import SubjectGone, commitment_make, content_store, event_record, salt_make
from chat.guard import Event, answer_check, draft_text
from chat.models import Session, Turn
from chat.pipeline.turn import Drafted, TurnInput
from chat.stores.base import Message
from chat.stores.conversation import history_append
from chat.stores.waiting import shared
from flags.registry import REGISTRY
from flags.snapshot import Snapshot
from onesource.errors import NotFound, Unavailable

log = structlog.get_logger(__name__)
DISCLAIMER = "Verify against NCC and relevant AS/NZS before use on-site"

# With the guard's events the body of an event stays well below its limit; the facts of the turn hold all references.
FACTS_REFERENCES = 64


@dataclass(frozen=True, slots=True)
class Recorded:
    answer: dict[str, Any]
    turn: Turn


def retention(flags: Snapshot) -> timedelta:
    return timedelta(seconds=int(flags.number("CONV_TTL_SECONDS")))


def turn_record(
    *, turn: TurnInput, drafted: Drafted, context: str, started: float, settle: Callable[[], None] | None = None
) -> Recorded:
    """Event, facts, encrypted content and the session's counters in one transaction; the hot store after it.

    `settle` runs in the transaction and may raise to take it back: somebody else has ended this turn. The session's
    row is locked before the stream's, as it is where a session is deleted, or the two would wait for each other.
    """
    now = timezone.now()
    with _recording(), transaction.atomic():
        session = session_advance(turn, now, turn_count=F("turn_count") + 1, last_turn_at=now)
        if settle:
            settle()
        seq = session.turn_count
        times = _times(turn, drafted, started)
        answer = _answer(turn, drafted, seq, times)
        text = draft_text(answer)
        salt = turn.salt or salt_make()
        event = event_record(
            kind=actions.TURN_ABORTED if drafted.ended else actions.TURN_COMPLETED,
            stream=f"session:{turn.session_id}",
            stream_seq=session.event_count,
            actor_ref=turn.subject.ref,
            facts=_facts(turn, drafted, seq, context, times)
            | {
                "question": commitment_make(salt, turn.question).facts(),
                "answer": commitment_make(salt, text).facts(),
                "expires_at": (now + retention(turn.flags)).isoformat(timespec="microseconds"),
            },
            at=now,
        )
        stored = content_store(
            turn_id=turn.turn_id,
            session_id=turn.session_id,
            seq=seq,
            subject_ref=turn.subject.ref,
            payload=_payload(turn, drafted, answer, text, salt),
            at=now,
            retention=retention(turn.flags),
        )
        row = Turn.objects.create(
            **_columns(turn, drafted, text, context, times), seq=seq, created_at=now, event_uid=event.uid
        )
    messages = [
        Message(2 * seq - 1, "user", turn.question, key_id=stored.key_id),
        Message(2 * seq, "assistant", text, key_id=stored.key_id),
    ]
    # robust: the turn is on record, so no fault of the store may keep its answer from the caller.
    transaction.on_commit(partial(_remember, turn, messages), robust=True)
    return Recorded(answer, row)


def _remember(turn: TurnInput, messages: Sequence[Message]) -> None:
    with shared(turn.waits):
        history_append(turn.session_id, messages, flags=turn.flags)


@contextmanager
def _recording() -> Iterator[None]:
    try:
        yield
    except ContentUnreadable as error:
        # An operator has taken away the key that wraps today's data key of this subject.
        log.error("turn.key_missing", cause=str(error))
        raise Unavailable(
            "The turn could not be recorded, so no answer is given. An operator has to put a key back.",
            code="not_recorded",
            retry_after=60,
        ) from error
    except SubjectGone as error:
        raise NotFound("This session does not exist or is not yours.", code="session_not_found") from error
    except IntegrityError as error:
        raise Unavailable(
            "The turn could not be recorded, so no answer is given. Please try again.",
            code="not_recorded",
            retry_after=2,
        ) from error


def session_advance(turn: TurnInput, now: datetime, **more: Any) -> Session:
    """Takes the session's next event number, and what `more` advances, under its row lock; a new session is made.

    Two tabs at once get two numbers. Raises NotFound.
    """
    advance = {"event_count": F("event_count") + 1, **more}
    mine = Session.objects.filter(pk=turn.session_id, subject_ref=turn.subject.ref, deleted_at=None)
    if not mine.update(**advance):
        Session.objects.bulk_create(
            [Session(id=turn.session_id, subject_ref=turn.subject.ref, created_at=now, last_turn_at=now)],
            ignore_conflicts=True,
        )
        if not mine.update(**advance):
            # Deleted, or taken by somebody else, while the answer was being made.
            raise NotFound("This session does not exist or is not yours.", code="session_not_found")
    return mine.get()


@dataclass(frozen=True, slots=True)
class Times:
    """Of a turn, in seconds from its start."""

    total: float
    provider: float
    first_token: float | None

    def milliseconds(self) -> dict[str, float | None]:
        overhead = max(self.total - self.provider, 0)
        named = {"total": self.total, "provider": self.provider, "overhead": overhead, "first_token": self.first_token}
        return {name: None if seconds is None else round(seconds * 1000, 1) for name, seconds in named.items()}

    def microseconds(self) -> dict[str, int | None]:
        named = {"total_us": self.total, "provider_us": self.provider, "first_token_us": self.first_token}
        return {name: None if seconds is None else int(seconds * 1e6) for name, seconds in named.items()}


def _times(turn: TurnInput, drafted: Drafted, started: float) -> Times:
    first = turn.sink.first_text_at if turn.sink else None
    return Times(
        total=time.perf_counter() - started,
        provider=drafted.provider_seconds,
        first_token=None if first is None else max(first - started, 0),
    )


def _answer(turn: TurnInput, drafted: Drafted, seq: int, times: Times) -> dict[str, Any]:
    completion = drafted.completion
    days = retention(turn.flags) / timedelta(days=1)
    answer = {
        **drafted.guarded.draft,
        "citations": drafted.citations,
        "meta": {
            "schema": "v2",
            "turn_id": str(turn.turn_id),
            "session_id": str(turn.session_id),
            "turn": seq,
            "pipeline": drafted.pipeline,
            "enhanced": turn.enhanced,
            "provider": completion.provider,
            "model": completion.model,
            "degraded": drafted.degraded,
            "repaired": drafted.guarded.repaired,
            "repair_codes": drafted.guarded.codes,
            "references": drafted.references,
            "suggested_actions": drafted.suggested_actions,
            "disclaimer": DISCLAIMER,
            "retention_notice": f"Questions and answers are kept for {days:g} days and then deleted.",
            "msg_count_before": 2 * (seq - 1),
            "tokens": {
                "prompt": completion.prompt_tokens,
                "completion": completion.completion_tokens,
                "estimated": completion.tokens_estimated,
            },
            "timing_ms": times.milliseconds(),
        },
    }
    answer_check(answer)
    return answer


def _facts(turn: TurnInput, drafted: Drafted, seq: int, context: str, times: Times) -> dict[str, Any]:
    completion = drafted.completion
    return {
        "turn_id": str(turn.turn_id),
        "session_id": str(turn.session_id),
        "turn": seq,
        "endpoint": turn.endpoint,
        "pipeline": drafted.pipeline,
        "outcome": drafted.outcome,
        "failure": drafted.failure,
        "ended": drafted.ended,
        "provider": completion.provider,
        "model": completion.model,
        "template": drafted.template,
        "enforced": completion.enforced,
        "stop_reason": completion.stop_reason,
        "passages": [found.key for found in drafted.passages],
        # A key stays when its text is edited: whether it is still the same is told by these.
        "passage_hashes": [found.digest for found in drafted.passages],
        "references": [
            f"{r['text']}{'' if r['known'] else ' (unknown)'}" for r in drafted.references[:FACTS_REFERENCES]
        ],
        "context": {"outcome": context, "turns": drafted.history_turns},
        "guard": {
            "outcome": drafted.guarded.outcome,
            "events": [_event_facts(event) for event in drafted.guarded.events],
        },
        "flags": flags_facts(turn),
        "tokens": {"prompt": completion.prompt_tokens, "completion": completion.completion_tokens},
        **times.microseconds(),
        "version": settings.VERSION,
        "commit": settings.GIT_COMMIT,
        "track": settings.RELEASE_TRACK,
    }


def flags_facts(turn: TurnInput) -> dict[str, Any]:
    evaluated = turn.flags.evaluate(turn.subject)
    numbers = {key for key in evaluated if REGISTRY[key].type == "number"}
    return {"epoch": turn.flags.epoch, **{k: str(v) if k in numbers else v for k, v in evaluated.items()}}


def _event_facts(event: Event) -> dict[str, Any]:
    names = ("code", "pointer", "start", "end", "count", "before", "after", "rules")
    return {name: getattr(event, name) for name in names}


def _payload(turn: TurnInput, drafted: Drafted, answer: dict[str, Any], text: str, salt: bytes) -> dict[str, Any]:
    payload = {"question": turn.question, "answer": answer, "answer_text": text, "salt": salt.hex()}
    if drafted.guarded.events:
        # What the guard changed can be judged only against what came in.
        payload["raw"] = drafted.completion.text.encode("utf-8", "replace").decode()
    return payload


def _columns(turn: TurnInput, drafted: Drafted, text: str, context: str, times: Times) -> dict[str, Any]:
    completion = drafted.completion
    return {
        "id": turn.turn_id,
        "session_id": turn.session_id,
        "endpoint": turn.endpoint,
        "pipeline": drafted.pipeline,
        "track": settings.RELEASE_TRACK,
        "outcome": drafted.outcome,
        "provider": completion.provider,
        "model": completion.model,
        "degraded": drafted.degraded,
        "repaired": drafted.guarded.repaired,
        "repair_codes": drafted.guarded.codes,
        "references": drafted.references,
        "context": context,
        "history_turns": drafted.history_turns,
        "question_chars": len(turn.question),
        "answer_chars": len(text),
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "arms": turn.arms,
        **times.microseconds(),
    }
