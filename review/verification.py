"""Verification of the trail together with what the product holds beside it: facts of turns, counters of sessions."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef
from django.db.models.expressions import RawSQL

from audit import actions
from audit.models import Event
from audit.rows import Row
from audit.verification import Finding, Progress, Report, log_verify
from chat.models import Session, Turn
from review.record import TURN_COLUMNS, differences

RECORDED = (actions.TURN_COMPLETED, actions.TURN_ABORTED)


def trail_verify(*, progress: Progress | None = None) -> Report:
    """Raises as audit.verification.log_verify."""
    report = log_verify(progress=progress, visitor=turns_compare, counters=_session_counters)
    for finding in _turns_without_event():
        report.add(finding)
    return report


def turns_compare(rows: Sequence[tuple[Row, dict[str, Any]]]) -> Iterator[Finding]:
    """Every recorded turn against the facts that pages and metrics are made from."""
    recorded = {str(body["facts"].get("turn_id")): (row, body["facts"]) for row, body in rows if row.kind in RECORDED}
    turns = Turn.objects.filter(pk__in=_among(list(recorded))).values(*TURN_COLUMNS)
    found = {str(turn["pk"]): turn for turn in turns}
    for turn_id, (row, facts) in recorded.items():
        turn = found.get(turn_id)
        if turn is None:
            yield Finding("turn_deleted", f"turn {turn_id}", f"event {row.uid} records it, and its facts are gone")
            continue
        differing = differences(turn, facts)
        differing += [name for name, value in (("event_uid", row.uid), ("created_at", row.at)) if turn[name] != value]
        if differing:
            detail = f"not as event {row.uid} recorded it: {', '.join(differing)}"
            yield Finding("turn_edited", f"turn {turn_id}", detail)


def _among(ids: list[Any]) -> Any:
    """For a lookup: on PostgreSQL one parameter in place of thousands, which cost more to put in than to look up."""
    return RawSQL("SELECT unnest(%s::uuid[])", [ids]) if connection.vendor == "postgresql" else ids


def _turns_without_event() -> Iterator[Finding]:
    event = Event.objects.filter(uid=OuterRef("event_uid"))
    for turn_id in Turn.objects.filter(~Exists(event)).values_list("pk", flat=True).iterator():
        yield Finding("turn_unrecorded", f"turn {turn_id}", "the event that recorded it is gone")


def _session_counters() -> Iterator[tuple[str, int]]:
    for session_id, count in Session.objects.values_list("pk", "event_count").iterator():
        yield f"session:{session_id}", count
