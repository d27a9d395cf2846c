"""What a person wants to know of a flag: what is in force and why, who changed it last, whether it is stale."""

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from audit import actions
from audit.models import Event, SubjectAlias
from flags import snapshot
from flags.models import Flag, FlagUse, Setting, Switch
from flags.registry import REGISTRY, Registered, Value, registered
from flags.selectors import picture_read

STREAM = "flags"
UNUSED_AFTER = timedelta(days=30)
PAGE = 100


@dataclass(frozen=True, slots=True)
class Changed:
    """One change on record. `actor` is a user name where it can still be told, else a pseudonym or ""."""

    at: datetime
    key: str
    old: Any
    new: Any
    actor: str
    reason: str
    source: str
    epoch: int

    def facts(self) -> dict[str, Any]:
        names = ("key", "old", "new", "actor", "reason", "source", "epoch")
        return {"at": self.at.isoformat(), **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class Status:
    """`value` is what somebody gets who is in no cohort; `state` says it in words; `stale` why, or ""."""

    entry: Registered
    value: Value
    state: str
    pinned: bool
    path: str
    since: datetime | None
    last_change: Changed | None
    evaluated_at: datetime | None
    stale: str

    @property
    def key(self) -> str:
        return self.entry.key

    @property
    def can_change(self) -> bool:
        return not self.pinned and not self.entry.boot

    @property
    def can_switch_off(self) -> bool:
        return self.entry.kind == "kill-switch" and self.can_change and self.state != "off"

    def facts(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "key": entry.key,
            "type": entry.type,
            "kind": entry.kind,
            "owner": entry.owner,
            "description": entry.description,
            "default": entry.default,
            "value": self.value,
            "state": self.state,
            "pinned": self.pinned,
            "boot": entry.boot,
            "last_change": self.last_change.facts() if self.last_change else None,
            "evaluated_at": self.evaluated_at.isoformat() if self.evaluated_at else None,
            "stale": self.stale,
        }


def statuses(keys: list[str] | None = None) -> list[Status]:
    """Of all registered flags, or of `keys`. Raises UnknownFlag."""
    entries = [registered(key) for key in (REGISTRY if keys is None else keys)]
    rows: dict[str, Any] = {row.change_key(): row for model in (Flag, Switch, Setting) for row in model.objects.all()}
    uses = dict(FlagUse.objects.values_list("key", "evaluated_at"))
    last = _last_changes([entry.key for entry in entries])
    picture = picture_read()
    return [_status(entry, rows.get(entry.key), uses.get(entry.key), last.get(entry.key), picture) for entry in entries]


def _status(
    entry: Registered, row: Any, evaluated_at: datetime | None, last: Changed | None, picture: snapshot.Snapshot
) -> Status:
    since = getattr(row, "created", None)
    value = picture.value(entry.key, None)
    pinned = entry.key in picture.pins
    return Status(
        entry=entry,
        value=value,
        state=_state(entry, row, value, pinned=pinned),
        pinned=pinned,
        path=f"admin:flags_{row._meta.model_name}_change" if row else "",
        since=since,
        last_change=last,
        evaluated_at=evaluated_at,
        stale=_stale(entry, since, evaluated_at),
    )


def _state(entry: Registered, row: Any, value: Value, *, pinned: bool) -> str:
    if not entry.is_boolean:
        return str(value)
    if pinned or entry.type != "cohort" or row is None or row.everyone is not None:
        return "on" if value else "off"
    listed = row.users.count() + row.groups.count()
    return f"{row.rollout_bp / 100:g} %" + (f" and {listed} listed" if listed else "")


def _stale(entry: Registered, since: datetime | None, evaluated_at: datetime | None) -> str:
    if entry.boot:
        return ""
    now = timezone.now()
    if entry.lifetime_days and since and now - since > timedelta(days=entry.lifetime_days):
        return f"older than its lifetime of {entry.lifetime_days} days: decide, and take it out of the code"
    if since and now - since > UNUSED_AFTER and (evaluated_at is None or now - evaluated_at > UNUSED_AFTER):
        return "no code has asked for it for 30 days"
    return ""


def history(key: str | None = None) -> Iterator[Changed]:
    """Changes on record, the latest first: of one flag, or of all."""
    for page in _pages(None if key is None else {key}):
        names = _names({event.actor_ref for event, _ in page})
        yield from (_changed(event, facts, names) for event, facts in page)


def _last_changes(keys: list[str]) -> dict[str, Changed]:
    """Reads back only as far as it takes to find one change of each key."""
    found: dict[str, tuple[Event, dict[str, Any]]] = {}
    wanted = set(keys)
    for page in _pages(wanted):
        for event, facts in page:
            found.setdefault(facts["key"], (event, facts))
        wanted.difference_update(found)
        if not wanted:
            break
    names = _names({event.actor_ref for event, _ in found.values()})
    return {key: _changed(event, facts, names) for key, (event, facts) in found.items()}


def _pages(keys: Set[str] | None) -> Iterator[list[tuple[Event, dict[str, Any]]]]:
    """Of each page of the record, the changes of these keys, as they are wanted by then."""
    events = Event.objects.filter(kind=actions.FLAG_CHANGED, stream=STREAM).order_by("-stream_seq")
    page = list(events[:PAGE])
    while page:
        # A body is canonical JSON, so that what is not wanted need not be parsed. A reason may hold the same text.
        marks = [f'"key":"{key}"'.encode() for key in keys or ()]
        bodies = ((event, bytes(event.body)) for event in page)
        parsed = (
            (event, json.loads(body)["facts"])
            for event, body in bodies
            if keys is None or any(mark in body for mark in marks)
        )
        yield [(event, facts) for event, facts in parsed if keys is None or facts["key"] in keys]
        page = list(events.filter(stream_seq__lt=page[-1].stream_seq)[:PAGE]) if len(page) == PAGE else []


def _names(refs: set[str]) -> dict[str, str]:
    """The user names behind these pseudonyms, as far as they can still be told."""
    known = SubjectAlias.objects.filter(subject_ref__in=refs - {""})
    return dict(known.values_list("subject_ref", f"user__{get_user_model().USERNAME_FIELD}"))


def _changed(event: Event, facts: dict[str, Any], names: dict[str, str]) -> Changed:
    return Changed(
        at=event.at,
        key=facts["key"],
        old=facts["old"],
        new=facts["new"],
        actor=names.get(event.actor_ref, event.actor_ref),
        reason=facts["reason"],
        source=facts["source"],
        epoch=facts["epoch"],
    )


def change_text(value: Any) -> str:
    """One side of a change as a person reads it."""
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    if value.keys() == {"active"}:
        return "on" if value["active"] else "off"
    if value.keys() == {"value"}:
        return "default" if value["value"] is None else str(value["value"])
    if "everyone" in value:
        if value["everyone"] is None:
            return f"{value['rollout_bp'] / 100:g} % of subjects"
        return "on for everyone" if value["everyone"] else "off for everyone"
    return ", ".join(f"{name.replace('_', ' ')}: {_members(members)}" for name, members in value.items())


def _members(members: Any) -> str:
    return str(members.get("count", members)) if isinstance(members, dict) else str(members)
