"""Verification of the trail together with what the product holds beside it: facts of turns, counters of sessions."""

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import Exists, Func, OuterRef, TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from audit import actions
from audit.models import Event
from audit.reading import at_text, uid_text
from audit.rows import Row
from audit.stretches import Finding
from audit.verification import Progress, Report, log_verify
from chat.models import Session, Turn
from onesource.collector import collector_off
from review.record import TURN_COLUMNS, differences

RECORDED = (actions.TURN_COMPLETED, actions.TURN_ABORTED)
ERASED = "session_deleted"
IDS = ("pk", "session_id", "event_uid")
JSON = ("references", "repair_codes", "arms")
# As bodies have them; of a million rows the making of objects would take longer than the look-up.
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def trail_verify(*, progress: Progress | None = None, processes: int = 1) -> Report:
    """As audit.verification.log_verify."""
    # Two fifths of the time otherwise.
    with collector_off():
        report = log_verify(progress=progress, visitor=turns_compare, counters=_session_counters, processes=processes)
    for finding in _turns_without_event():
        report.add(finding)
    return report


def turns_compare(rows: Sequence[tuple[Row, dict[str, Any]]]) -> Iterator[Finding]:
    """Every recorded turn against the facts that pages and metrics are made from."""
    recorded = [(row, body["facts"], _id(body["facts"].get("turn_id"))) for row, body in rows if row.kind in RECORDED]
    turns = {turn["pk"]: turn for turn in _turns(list({turn_id for _, _, turn_id in recorded if turn_id}))}
    for row, facts, turn_id in recorded:
        turn = turns.get(turn_id)
        if not turn_id:
            yield Finding("turn_nameless", f"event {row.uid}", f"it is of kind {row.kind} and names no turn")
        elif turn is None and facts.get("ended") == ERASED:
            # The one end of a turn that leaves no facts: its conversation was gone.
            continue
        elif turn is None:
            yield Finding("turn_deleted", f"turn {turn_id}", f"event {row.uid} records it, and its facts are gone")
        elif differing := _differing(turn, row, facts):
            # A second event of one turn comes out here as well: the turn names one of them.
            detail = f"not as event {row.uid} recorded it: {', '.join(differing)}"
            yield Finding("turn_edited", f"turn {turn_id}", detail)


def _id(value: Any) -> str:
    """Empty for what is no id."""
    if isinstance(value, str) and UUID_TEXT.fullmatch(value):
        return value
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        return ""


def _differing(turn: dict[str, Any], row: Row, facts: dict[str, Any]) -> list[str]:
    told = {"event_uid": row.uid, "created_at": row.at, "session__subject_ref": row.actor_ref}
    return differences(turn, facts) + [name for name, value in told.items() if turn[name] != value]


def _turns(ids: list[str]) -> Iterator[dict[str, Any]]:
    """TURN_COLUMNS of these turns and whose they are, with time and ids as bodies have them."""
    plain = [name for name in TURN_COLUMNS if name not in (*IDS, *JSON, "created_at")]
    texts = {f"{name}_text": _AsIs(name) for name in (*IDS, *JSON)}
    rows = Turn.objects.filter(pk__in=_among(ids)).values(
        *plain, "session__subject_ref", **texts, at=_TimeText("created_at")
    )
    stored = connection.vendor != "postgresql"
    for row in rows:
        row["created_at"] = at_text(row["at"]) if stored else row["at"]
        for name in IDS:
            text = row[f"{name}_text"]
            row[name] = uid_text(text) if stored else text
        for name in JSON:
            row[name] = _listed(row[f"{name}_text"])
        yield row


@lru_cache(maxsize=4096)
def _listed(text: str | None) -> Any:
    """Shared by the turns that have the same."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


class _AsIs(Cast):
    """The text that is stored, whether or not it is one of the column's type."""

    def __init__(self, name: str) -> None:
        super().__init__(name, TextField())


class _TimeText(Func):
    """A time as bodies have it; elsewhere than on PostgreSQL as it is stored."""

    arity = 1

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || '+00:00'"
        self.output_field = TextField()
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        self.output_field = TextField()
        return self.as_sql(compiler, connection, template="CAST(%(expressions)s AS text)", **context)


def _among(ids: list[Any]) -> Any:
    """For a lookup: on PostgreSQL one parameter in place of thousands, which cost more to put in than to look up."""
    return RawSQL("SELECT unnest(%s::uuid[])", [ids]) if connection.vendor == "postgresql" else ids


def _turns_without_event() -> Iterator[Finding]:
    event = Event.objects.filter(uid=OuterRef("event_uid"))
    unrecorded = Turn.objects.filter(~Exists(event)).annotate(text=_AsIs("pk")).values_list("text", flat=True)
    for turn_id in unrecorded.iterator():
        yield Finding("turn_unrecorded", f"turn {uid_text(turn_id)}", "the event that recorded it is gone")


def _session_counters() -> Iterator[tuple[str, int]]:
    for session_id, count in Session.objects.values_list("pk", "event_count").iterator():
        yield f"session:{session_id}", count
