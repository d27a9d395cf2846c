"""When what happened to a turn, from the question to the last export that held it."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from audit import actions
from audit.actions import KINDS
from audit.models import Event
from audit.selectors import facts_of
from chat.models import Turn
from review.damage import readable
from review.filters import TurnFilters
from review.selectors import ContentState

EXPORTS = "review"
LATER = (
    actions.CONTENT_REVEALED, actions.TURN_REPLAYED, actions.SESSION_DELETED, actions.EXPORT_MADE,
    actions.HOLD_PLACED, actions.HOLD_RELEASED, actions.SUBJECT_ERASED,
)  # fmt: skip
# A turn begins on record some time after its clock starts.
SLACK = timedelta(minutes=1)
LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Moment:
    """`event` is the uid of the event that says so, None for what is reckoned from the turn's own times."""

    at: datetime
    what: str
    detail: str = ""
    event: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Oldest first. Where it is not `complete`, more than LIMIT events came later that may concern the turn."""

    moments: list[Moment]
    complete: bool


def timeline(turn: Turn, state: ContentState) -> Timeline:
    """Raises RecordDamaged."""
    with readable():
        later = [
            list(events.filter(kind__in=LATER, at__gte=turn.created_at).order_by("at")[:LIMIT])
            for events in (_stream(turn), Event.objects.filter(stream=EXPORTS), _fate(turn))
        ]
    told = [(event, facts_of(event)) for events in later for event in events]
    concerning = [_moment(event, facts) for event, facts in told if _concerns(facts, turn)]
    purged = [Moment(state.on, state.sentence)] if state.kind == "purged" and state.on else []
    with readable():
        # A time that is no time has come out as none.
        told_of = [*_measured(turn), *_begun(turn), *concerning, *purged]
        moments = sorted(told_of, key=lambda moment: moment.at)
    return Timeline(moments, complete=all(len(events) < LIMIT for events in later))


def _measured(turn: Turn) -> list[Moment]:
    asked = turn.created_at - timedelta(microseconds=turn.total_us)
    found = [Moment(asked, "Question received")]
    if turn.first_token_us is not None:
        after = timedelta(microseconds=turn.first_token_us)
        found.append(Moment(asked + after, "First text of the reply", _seconds(turn.first_token_us)))
    detail = f"{_seconds(turn.total_us)} in all, {_seconds(turn.provider_us)} of it the provider"
    return [*found, Moment(turn.created_at, "Answer recorded", detail, turn.event_uid)]


def _begun(turn: Turn) -> list[Moment]:
    """Of a streamed turn: its first event."""
    asked = turn.created_at - timedelta(microseconds=turn.total_us)
    events = _stream(turn).filter(kind=actions.TURN_STARTED, at__gte=asked - SLACK, at__lte=turn.created_at)
    return [_moment(event, {}) for event in events[:LIMIT] if facts_of(event).get("turn_id") == str(turn.pk)]


def _stream(turn: Turn) -> QuerySet[Event]:
    return Event.objects.filter(stream=f"session:{turn.session_id}")


def _fate(turn: Turn) -> QuerySet[Event]:
    """What kept or erased its content together with others'."""
    return Event.objects.filter(stream__in=(f"hold:{turn.session_id}", f"subject:{turn.session.subject_ref}"))


def _concerns(facts: dict[str, Any], turn: Turn) -> bool:
    if "turn_id" in facts:
        return bool(facts["turn_id"] == str(turn.pk))
    if "filters" in facts:
        try:
            return TurnFilters.of_facts(facts["filters"]).covers(turn)
        except (ValueError, TypeError, AttributeError):
            # Not what we wrote: somebody has changed it, and verification says so.
            return False
    if "subject_ref" in facts:
        return bool(facts["subject_ref"] == turn.session.subject_ref)
    return bool(facts.get("session_id") == str(turn.session_id))


def _moment(event: Event, facts: dict[str, Any]) -> Moment:
    kind = KINDS.get(event.kind)
    what = kind.label if kind else event.kind
    if facts.get("content") is True:
        what += ", with question and answer"
    return Moment(event.at, what, str(facts.get("reason", "")), event.uid)


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1e6:.3f} s"
