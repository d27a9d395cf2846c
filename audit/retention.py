"""The end of contents: what has expired is deleted, then the keys that nothing is under any more, on record.

Nothing expired is ever read, deleted or not. Deleted it is within minutes; on PostgreSQL once its UTC day is over, by
dropping that day's partition, so at most a day and some minutes after it expired.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone
from prometheus_client import Counter

from audit.erasing import DELETE_LIMIT, contents_delete, keys_purge
from audit.files import files_clean
from audit.models import ContentKey
from audit.partitions import (
    Dropped,
    day_start,
    partition_days,
    partition_detach,
    partition_drop,
    partitioned,
    purged_record,
)
from audit.selectors import contents_due

Progress = Callable[[int, int | None], None]
# A hold that was placed in time has been committed by then.
GRACE = timedelta(minutes=1)
# Between batches, so that turns get their turn at SQLite's one write lock.
PAUSE_SECONDS = 0.02

PURGED = Counter("onesource_content_purged_turns_total", "Turns whose content was deleted at the end of its retention")


@dataclass(frozen=True, slots=True)
class Purged:
    """Of one run. `finished` is false when it was stopped, or could not have a lock: the next run goes on."""

    turns: int
    held: int
    keys: int
    finished: bool


class _Run:
    def __init__(self, progress: Progress | None, stop: Callable[[], bool] | None) -> None:
        self._progress = progress
        self.stopped = stop or (lambda: False)
        self.turns = self.held = self.keys = 0

    def add(self, turns: int, held: int) -> None:
        self.turns += turns
        self.held += held
        PURGED.inc(turns)
        if self._progress and (turns or held):
            self._progress(self.turns, None)


def purge_run(*, progress: Progress | None = None, stop: Callable[[], bool] | None = None, keys: bool = True) -> Purged:
    """Deletes what has expired, in steps of which each is recorded in its own transaction; safe to run twice at once.

    `progress` is told the turns so far. `stop` is asked between two steps. All keys are looked at after a deletion, or
    when `keys` asks for it.
    """
    run = _Run(progress, stop)
    before = timezone.now() - GRACE
    left = _partitions_purge(run, before) if partitioned() else []
    finished = not left
    while not run.stopped() and _batch_purge(run, before, left):
        time.sleep(PAUSE_SECONDS)
    if keys or run.turns:
        _keys_purge(run)
    if connection.vendor == "sqlite":
        # Also for what owners have deleted since the last run.
        finished = files_clean() and finished
    return Purged(run.turns, run.held, run.keys, finished and not run.stopped())


def _partitions_purge(run: _Run, before: datetime) -> list[tuple[datetime, datetime]]:
    """Drops the days that are over; the bounds of those that could not be taken off now."""
    # First what a run that was killed in between has left.
    for day in partition_days(attached=False):
        _drop(run, partition_drop(day))
    left = []
    today = before.astimezone(UTC).date()
    for day in partition_days(attached=True):
        if day >= today or run.stopped():
            break
        if partition_detach(day):
            _drop(run, partition_drop(day))
        else:
            left.append((day_start(day), day_start(day + timedelta(days=1))))
    return left


def _drop(run: _Run, dropped: Dropped) -> None:
    run.add(dropped.turns, dropped.held)


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
