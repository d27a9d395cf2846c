"""What a reviewer looks for: as the database is asked, as it goes on record, and as one turn is held against it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import Q

from chat.models import Turn
from review.lookups import lists, lists_named, sets


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a cohort flag: KEY=on or KEY=off."""

    key: str
    on: bool

    def __str__(self) -> str:
        return f"{self.key}={'on' if self.on else 'off'}"

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """Raises ValueError."""
        key, separator, side = text.rpartition("=")
        if not separator or not key or side not in ("on", "off"):
            raise ValueError(text)
        return cls(key, side == "on")


@dataclass(frozen=True, slots=True)
class TurnFilters:
    """`since` is included, `until` is not. People by their pseudonym alone: a filter goes on record with an export."""

    since: datetime | None = None
    until: datetime | None = None
    subject_ref: str = ""
    session: uuid.UUID | None = None
    turn: uuid.UUID | None = None
    outcome: str = ""
    endpoint: str = ""
    repair_code: str = ""
    arm: Arm | None = None
    model: str = ""
    reference: str = ""
    degraded: bool | None = None
    repaired: bool | None = None

    def within(self) -> Q:
        return _within("created_at", self.since, self.until)

    def ordered(self) -> list[Any]:
        """Conditions for which an index gives the rows in the order of time."""
        texts = {name: getattr(self, name) for name in ("outcome", "endpoint", "model")}
        marked = [name for name in ("degraded", "repaired") if getattr(self, name)]
        return [Q(**{name: text}) for name, text in texts.items() if text] + [Q(**{name: True}) for name in marked]

    def scattered(self) -> list[Any]:
        """The other conditions: the rows that they find lie anywhere in time."""
        found: list[Any] = [Q(**{name: False}) for name in ("degraded", "repaired") if getattr(self, name) is False]
        if self.subject_ref:
            found.append(Q(session__subject_ref=self.subject_ref))
        if self.session:
            found.append(Q(session=self.session))
        if self.turn:
            found.append(Q(pk=self.turn))
        if self.repair_code:
            found.append(lists("repair_codes", self.repair_code))
        if self.reference:
            found.append(lists_named("references", "text", self.reference))
        if self.arm:
            found.append(sets("arms", self.arm.key, self.arm.on))
        return found

    def facts(self) -> dict[str, Any]:
        """What was given, as text and truth values."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in given.items() if value is not None and value != ""}

    @classmethod
    def of_facts(cls, facts: dict[str, Any]) -> "TurnFilters":
        """The filters that `facts` came from. Raises ValueError or TypeError for what never was a filter."""
        read: dict[str, Callable[[str], Any]] = {
            "since": datetime.fromisoformat,
            "until": datetime.fromisoformat,
            "session": uuid.UUID,
            "turn": uuid.UUID,
            "arm": Arm.parse,
        }
        given: dict[str, Any] = {name: read[name](value) if name in read else value for name, value in facts.items()}
        return cls(**given)

    def covers(self, turn: Turn) -> bool:
        """Whether a search finds this turn; its session must be loaded, or costs a query."""
        held = {
            "subject_ref": turn.session.subject_ref,
            "session": turn.session_id,
            "turn": turn.pk,
            **{name: getattr(turn, name) for name in ("outcome", "endpoint", "model", "degraded", "repaired")},
        }
        asked = {name: getattr(self, name) for name in held}
        return (
            (self.since is None or turn.created_at >= self.since)
            and (self.until is None or turn.created_at < self.until)
            and all(value in (None, "", held[name]) for name, value in asked.items())
            and (not self.repair_code or self.repair_code in turn.repair_codes)
            and (not self.reference or self.reference in [mark["text"] for mark in turn.references])
            and (self.arm is None or (turn.arms or {}).get(self.arm.key) is self.arm.on)
        )


def _plain(value: Any) -> str | bool:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class EventFilters:
    since: datetime | None = None
    until: datetime | None = None
    kind: str = ""
    actor_ref: str = ""
    stream: str = ""

    def within(self) -> Q:
        return _within("at", self.since, self.until)

    def scattered(self) -> list[Any]:
        names = ("kind", "actor_ref", "stream")
        return [Q(**{name: getattr(self, name)}) for name in names if getattr(self, name)]


def _within(name: str, since: datetime | None, until: datetime | None) -> Q:
    found = Q()
    if since:
        found &= Q(**{f"{name}__gte": since})
    if until:
        found &= Q(**{f"{name}__lt": until})
    return found
