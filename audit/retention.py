"""The end of contents: what has expired is deleted, then the keys that nothing is under any more, on record.

Nothing expired is ever read, deleted or not. Deleted it is within minutes; on PostgreSQL once its UTC day is over, by
dropping that day's partition, so at most a day and some minutes after it expired.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import or_

import structlog
from django import db
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from prometheus_client import Counter

from audit.erasing import DELETE_LIMIT, contents_delete, keys_purge
from audit.files import files_clean
from audit.models import ContentKey, HeldContent, LegalHold
from audit.partitions import (
    day_start,
    partition_days,
    partition_detach,
    partition_drop,
    partitioned,
    purged_record,
)
from audit.selectors import contents_due

log = structlog.get_logger(__name__)
Progress = Callable[[int, int | None], None]
# A hold that was placed in time has been committed by then.
GRACE = timedelta(minutes=1)
# So far may this machine's clock be from the database's; deletion is for good, so a worse one deletes nothing.
CLOCKS_APART = timedelta(minutes=5)
# A day that has been over for so long does not wait for the dropping of its partition any more.
PATIENCE = timedelta(days=2)
# Between batches, so that turns get their turn at SQLite's one write lock.
PAUSE_SECONDS = 0.02

PURGED = Counter("onesource_content_purged_turns_total", "Turns whose content was deleted at the end of its retention")


@dataclass(frozen=True, slots=True)
class Purged:
    """Of one run. `finished` is false when it was stopped, could not have a lock or refused: the next run goes on."""

    turns: int
    held: int
    keys: int
    finished: bool


class _Run:
    def __init__(self, progress: Progress | None, stop: Callable[[], bool] | None) -> None:
        self._progress = progress
        self.stopped = stop or (lambda: False)
        self.turns = self.held = self.keys = 0
        self.failure: db.Error | None = None

    def add(self, turns: int, held: int) -> None:
        self.turns += turns
        self.held += held
        PURGED.inc(turns)
        if self._progress and (turns or held):
            self._progress(self.turns, None)


def purge_run(*, progress: Progress | None = None, stop: Callable[[], bool] | None = None, keys: bool = True) -> Purged:
    """Deletes what has expired, in steps of which each is recorded in its own transaction; safe to run twice at once.

    `progress` is told the turns so far. `stop` is asked between two steps. All keys are looked at after a deletion, or
    when `keys` asks for it. What keeps one day's partition from going rises when all the rest has been done.
    """
    run = _Run(progress, stop)
    now = _now()
    if now is None:
        return Purged(0, 0, 0, finished=False)
    before = now - GRACE
    left = _partitions_purge(run, before) if partitioned() else []
    finished = not left
    while not run.stopped() and _batch_purge(run, before, left):
        time.sleep(PAUSE_SECONDS)
    while not run.stopped() and _unheld_purge(run, before):
        time.sleep(PAUSE_SECONDS)
    if keys or run.turns:
        _keys_purge(run)
    if connection.vendor == "sqlite":
        # Also for what owners have deleted since the last run.
        finished = files_clean() and finished
    if run.failure:
        raise run.failure
    return Purged(run.turns, run.held, run.keys, finished and not run.stopped())


def _now() -> datetime | None:
    """The earlier of this machine's clock and the database's; None, and an error in the log, when they are too far
    apart to tell what has expired."""
    here = timezone.now()
    if connection.vendor != "postgresql":
        # The same machine.
        return here
    there = database_now()
    if abs(there - here) > CLOCKS_APART:
        log.error("purge.clocks_differ", here=here.isoformat(), database=there.isoformat())
        return None
    return min(here, there)


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def _partitions_purge(run: _Run, before: datetime) -> list[tuple[datetime, datetime]]:
    """Drops the days that are over; the bounds of those that could not be taken off now."""
    # First what a run that was killed in between has left.
    for day in partition_days(attached=False):
        _drop(run, day)
    left = []
    today = before.astimezone(UTC).date()
    for day in partition_days(attached=True):
        if day >= today or run.stopped():
            break
        if _detach(run, day):
            _drop(run, day)
        elif before - day_start(day + timedelta(days=1)) < PATIENCE:
            left.append((day_start(day), day_start(day + timedelta(days=1))))
    return left


def _detach(run: _Run, day: date) -> bool:
    try:
        return partition_detach(day)
    except db.Error as error:
        _fail(run, day, error)
        return False


def _drop(run: _Run, day: date) -> None:
    try:
        dropped = partition_drop(day)
    except db.Error as error:
        _fail(run, day, error)
    else:
        run.add(dropped.turns, dropped.held)


def _fail(run: _Run, day: date, error: db.Error) -> None:
    """One day's failure must not keep the others, nor the batches, from going."""
    log.error("purge.day_failed", day=str(day), exc_info=error)
    run.failure = run.failure or error


def _batch_purge(run: _Run, before: datetime, left: list[tuple[datetime, datetime]]) -> bool:
    """Whether there was anything. Days in `left` wait for their partition to be dropped, at a fraction of the cost."""
    due = contents_due(before)
    if left:
        due = due.exclude(reduce(or_, (Q(expires_at__gte=start, expires_at__lt=end) for start, end in left)))
    with transaction.atomic():
        erased = contents_delete(due.order_by("expires_at")[:DELETE_LIMIT], skip_locked=True)
        if erased.turns:
            purged_record(turns=erased.turns, held=erased.held, before=before.isoformat(), how="batch")
    run.add(erased.turns, erased.held)
    return bool(erased.turns or erased.held)


def _unheld_purge(run: _Run, before: datetime) -> bool:
    """Deletes copies that no hold keeps, should any be left behind. Whether there were any."""
    holds = LegalHold.objects.filter(session_id=OuterRef("session_id"), released_at=None)
    with transaction.atomic():
        locked = HeldContent.objects.select_for_update(skip_locked=True).filter(~Exists(holds))
        turn_ids = list(locked.order_by("pk").values_list("pk", flat=True)[:DELETE_LIMIT])
        if turn_ids:
            HeldContent.objects.filter(pk__in=turn_ids).delete()
            purged_record(turns=len(turn_ids), held=0, before=before.isoformat(), how="unheld")
    run.add(len(turn_ids), 0)
    return bool(turn_ids)


def _keys_purge(run: _Run) -> None:
    last = 0
    while not run.stopped():
        some = ContentKey.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)
        key_ids = list(some[:DELETE_LIMIT])
        if not key_ids:
            return
        last = key_ids[-1]
        with transaction.atomic():
            run.keys += keys_purge(key_ids)
