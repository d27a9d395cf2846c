"""What reviewers read: turns, events, and what became of a turn's content."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from django.contrib.auth import get_user_model

from audit import actions
from audit.models import Checkpoint, Event, Leaf, LegalHold, SubjectAlias, TurnContent
from audit.proofs import Proof, proof_for
from audit.selectors import Gone, content_for_review, content_gone, facts_of
from audit.tiles import TileError
from audit.verifying import Check, event_checks
from chat.models import Turn
from onesource.errors import Conflict, NotFound
from review.damage import readable
from review.filters import EventFilters, TurnFilters
from review.paging import Keyset, Page, page_read
from review.record import TURN_COLUMNS, differences

TURNS = Keyset("created_at", uuid.UUID)
EVENTS = Keyset("at", int)
CHECKPOINTS = 50
EVENT_TAKEN = "The event that holds the facts of this turn is not in the trail: somebody has taken it away."
PSEUDONYM = re.compile(r"[0-9a-f]{32}")


class LogDamaged(Conflict):
    code = "log_damaged"
    title = "The log lacks a part of what was in it, so nothing can be proved by it. Tell an operator"


def turns_search(filters: TurnFilters, cursor: str = "") -> Page[Turn]:
    """One page of turns with their sessions, the newest first. Raises BadInput for a foreign cursor."""
    rows = Turn.objects.filter(filters.within()).prefetch_related("session")
    return page_read(rows, TURNS, cursor=cursor, ordered=filters.ordered(), scattered=filters.scattered())


def turn_ids(filters: TurnFilters, limit: int) -> list[uuid.UUID]:
    """The newest first, no more than `limit`."""
    rows = Turn.objects.filter(filters.within(), *filters.ordered(), *filters.scattered())
    return list(rows.order_by("-created_at", "-pk").values_list("pk", flat=True)[:limit])


def turns_of(ids: list[uuid.UUID]) -> list[Turn]:
    """With their sessions, in the order of `ids`."""
    found = {turn.pk: turn for turn in Turn.objects.filter(pk__in=ids).select_related("session")}
    return [found[pk] for pk in ids]


def turn_for(turn_id: uuid.UUID) -> Turn:
    """With its session. Raises NotFound and RecordDamaged."""
    with readable():
        turn = Turn.objects.filter(pk=turn_id).select_related("session").first()
    if turn is None:
        raise NotFound("There is no turn of this id on record.", code="turn_not_found")
    return turn


def events_search(filters: EventFilters, cursor: str = "") -> Page[Event]:
    """One page of events without their bodies, the newest first. Raises BadInput for a foreign cursor."""
    rows = Event.objects.filter(filters.within()).defer("body", "leaf")
    return page_read(rows, EVENTS, cursor=cursor, scattered=filters.scattered())


def event_for(uid: uuid.UUID) -> Event:
    """Raises NotFound and RecordDamaged."""
    with readable():
        event = Event.objects.filter(uid=uid).first()
    if event is None:
        raise NotFound("There is no event of this id on record.", code="event_not_found")
    return event


def event_of(turn: Turn) -> Event | None:
    """The event that holds the turn's facts; None only when somebody has taken it away. Raises RecordDamaged."""
    with readable():
        return Event.objects.filter(uid=turn.event_uid).first()


def leaf_index(event: Event) -> int | None:
    """The event's place in the log, once it is sealed."""
    return Leaf.objects.filter(event_id=event.pk).values_list("index", flat=True).first()


def proof_of(turn: Turn) -> Proof:
    """Of the event that holds the turn's facts. Raises NotFound, NotSealedYet and LogDamaged."""
    event = event_of(turn)
    if event is None:
        raise NotFound(EVENT_TAKEN, code="event_not_found")
    try:
        return proof_for(event)
    except TileError as error:
        raise LogDamaged() from error


def checkpoints_newest() -> list[Checkpoint]:
    return list(Checkpoint.objects.order_by("-size")[:CHECKPOINTS])


def turn_checks(turn: Turn) -> list[Check]:
    """What verification finds of a turn: its event in the log, and its facts against the event."""
    event = event_of(turn)
    if event is None:
        return [Check("Record", False, EVENT_TAKEN)]
    (row,) = Turn.objects.filter(pk=turn.pk).values(*TURN_COLUMNS)
    differing = differences(row, facts_of(event))
    told = f"Not as recorded: {', '.join(differing)}." if differing else "The facts shown are those of the record."
    return [*event_checks(event), Check("Facts", not differing, told)]


def subject_ref_by(given: str) -> str | None:
    """The pseudonym of a user name, or `given` itself when that is one; None for anything else."""
    name = {f"user__{get_user_model().USERNAME_FIELD}": given}
    known = SubjectAlias.objects.filter(**name).values_list("subject_ref", flat=True).first()
    return known or (given if PSEUDONYM.fullmatch(given) else None)


@dataclass(frozen=True, slots=True)
class ContentState:
    """What became of a turn's texts: `on` is when they went, or until when they are held."""

    kind: Literal["held", "legal_hold", "erased", "purged", "missing"]
    on: datetime | None
    sentence: str

    @property
    def readable(self) -> bool:
        return self.kind in ("held", "legal_hold")


def content_state(turn: Turn) -> ContentState:
    """`turn.session` must be loaded, or costs a query."""
    row = content_for_review(turn.pk)
    if row is None:
        return _gone_state(turn)
    hold = LegalHold.objects.filter(session_id=turn.session_id, released_at=None).first()
    if hold:
        sentence = (
            f"Content under legal hold since {_told(hold.placed_at)}; without it held until {_told(row.expires_at)}."
        )
        return ContentState("legal_hold", hold.placed_at, sentence)
    return ContentState("held", row.expires_at, f"Content held until {_told(row.expires_at)}.")


def _gone_state(turn: Turn) -> ContentState:
    event = event_of(turn)
    expires_at = _time(facts_of(event).get("expires_at")) if event else None
    gone = content_gone(session_id=str(turn.session_id), subject_ref=turn.session.subject_ref, expires_at=expires_at)
    if gone and gone.why == "purged":
        return ContentState("purged", gone.at, f"Content purged on {_told(gone.at)}.")
    if gone:
        return ContentState("erased", gone.at, _erased_sentence(turn, gone))
    left = TurnContent.objects.filter(pk=turn.pk).values_list("expires_at", flat=True).first()
    if left:
        return ContentState("purged", left, f"Content expired on {_told(left)}; it is deleted with the next purge.")
    return ContentState("missing", None, "The content is not there, and no record says why.")


def _erased_sentence(turn: Turn, gone: Gone) -> str:
    """With whoever the record says: a person erases their own, an operator's command erases for any reason."""
    owner = turn.session.subject_ref
    what, stream, kind = (
        ("Content", f"session:{turn.session_id}", actions.SESSION_DELETED)
        if gone.why == "deleted"
        else ("Content, with all of this person,", f"subject:{owner}", actions.SUBJECT_ERASED)
    )
    recorded = Event.objects.filter(stream=stream, kind=kind, at=gone.at).values_list("actor_ref", flat=True).first()
    by = "its owner" if recorded == owner else recorded or "a command, which names nobody"
    return f"{what} erased on {_told(gone.at)} by {by}."


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
