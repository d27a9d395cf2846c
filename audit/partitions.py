"""The partitions of turn_content on PostgreSQL, one a UTC day of expiry: a day that is over goes by dropping a table.

Rows of a day without a partition lie in the default one and are deleted in batches, as everywhere else. Partitions are
made and taken off under locks that every turn needs, so each try waits half a second at most; the next run tries again.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import structlog
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone
from psycopg import errors

from audit import actions
from audit.services import event_record

T = TypeVar("T")
log = structlog.get_logger(__name__)
TABLE = "turn_content"
DEFAULT = f"{TABLE}_default"
NAME = re.compile(rf"{TABLE}_p(\d{{8}})")
COLUMNS = "turn_id, session_id, seq, key_id, sealed, created_at, expires_at"
# For as long may nobody run the worker before new contents go to the default partition.
AHEAD = timedelta(days=3)
# That of CONV_TTL_SECONDS.
DEFAULT_RETENTION = timedelta(days=30)
LOCK_TIMEOUT_MS = 500
# For what nobody waits for.
PATIENT_SECONDS = 600.0
# More is as bad, and counting it would cost every scrape.
OVERDUE_LIMIT = 100_000
STREAM = "retention"


@dataclass(frozen=True, slots=True)
class Dropped:
    """`turns` were deleted; `held` are kept aside by legal holds."""

    turns: int
    held: int


def partitioned() -> bool:
    """False on SQLite, and on PostgreSQL before the migration."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", [TABLE])
        row = cursor.fetchone()
    return bool(row and row[0])


def day_start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def partition_days(*, attached: bool) -> list[date]:
    """The days that have a partition, oldest first; not `attached`: those taken off, which wait to be dropped."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relispartition = %s "
            "AND relname LIKE %s ORDER BY relname",
            [attached, f"{TABLE}\\_p%"],
        )
        names = [NAME.fullmatch(name) for (name,) in cursor.fetchall()]
    return [datetime.strptime(name[1], "%Y%m%d").replace(tzinfo=UTC).date() for name in names if name]


def partitions_make(*, retention: timedelta) -> list[date]:
    """Makes the partitions that contents of the next days will lie in, and returns their days.

    A day of which the default partition already holds contents has none: PostgreSQL would refuse it.
    """
    if not partitioned():
        return []
    first = (timezone.now() + retention).astimezone(UTC).date()
    wanted = [first + timedelta(days=days) for days in range(AHEAD.days + 1)]
    missing = _missing(wanted)
    if not missing:
        return []

    def make(cursor: CursorWrapper) -> list[date]:
        _lock(cursor, "SHARE ROW EXCLUSIVE")
        # Another worker may have made them while this one waited.
        made = _missing(missing)
        for day in made:
            bounds = f"FROM ('{day_start(day)}') TO ('{day_start(day + timedelta(days=1))}')"
            cursor.execute(f"CREATE TABLE {_name(day)} PARTITION OF {TABLE} FOR VALUES {bounds}")
        return made

    return _unless_busy("make", make) or []


def partitions_prepare(sender: object, **kwargs: Any) -> None:
    """Receiver of post_migrate: the first turns are to find their partition. The worker knows any other retention."""
    partitions_make(retention=DEFAULT_RETENTION)


def partition_detach(day: date) -> bool:
    """Takes a day off the table, at once and for good; what a legal hold keeps is copied aside in the same transaction.

    False when that cannot be had without keeping turns waiting.
    """
    name = _name(day)

    def detach(cursor: CursorWrapper) -> bool:
        _lock(cursor, "ACCESS EXCLUSIVE")
        if day not in partition_days(attached=True):
            return True
        # The holds are locked: whoever releases one waits, and finds the copies.
        cursor.execute(
            f"INSERT INTO held_content ({COLUMNS}) SELECT {COLUMNS} FROM {name} JOIN "  # noqa: S608
            "(SELECT session_id, placed_at FROM legal_hold WHERE released_at IS NULL FOR SHARE) hold "
            "USING (session_id) WHERE placed_at < expires_at ON CONFLICT DO NOTHING"
        )
        cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {name}")
        # Else dropping it would need the lock on the table of the keys once more.
        cursor.execute("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'", [name])
        for (constraint,) in cursor.fetchall():
            cursor.execute(f'ALTER TABLE {name} DROP CONSTRAINT "{constraint}"')
        return True

    return _unless_busy("detach", detach) or False


def partition_drop(day: date) -> Dropped:
    """Deletes a day that was taken off and records it, in one transaction."""
    name = _name(day)
    with transaction.atomic(), connection.cursor() as cursor:
        # Two workers: the second leaves it to the first, however long that takes, or finds nothing left.
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [name])
        if not cursor.fetchone()[0] or day not in partition_days(attached=False):
            return Dropped(0, 0)
        with _patient(cursor):
            cursor.execute(
                f"SELECT count(*), count(h.turn_id) FROM {name} LEFT JOIN held_content h USING (turn_id)"  # noqa: S608
            )
            row = cursor.fetchone()
        dropped = Dropped(turns=row[0] - row[1], held=row[1])
        cursor.execute(f"DROP TABLE {name}")
        if dropped.turns:
            before = day_start(day + timedelta(days=1)).isoformat()
            purged_record(turns=dropped.turns, held=dropped.held, before=before, how="partition")
    return dropped


@contextmanager
def _patient(cursor: CursorWrapper) -> Iterator[None]:
    """In the caller's transaction: more time than a request has. The table at hand is nobody's any more."""
    session = connection.connection
    session.limit = PATIENT_SECONDS + 1
    cursor.execute("SHOW statement_timeout")
    before = cursor.fetchone()[0]
    cursor.execute(f"SET LOCAL statement_timeout = '{PATIENT_SECONDS:g}s'")
    try:
        yield
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [before])
    finally:
        # That of its class again.
        del session.limit


def detached_overdue(before: datetime) -> int:
    """How many contents, counted up to a limit, are in partitions whose day was over by then and that are taken off
    but not dropped."""
    if not partitioned():
        return 0
    rows = 0
    with connection.cursor() as cursor:
        for day in partition_days(attached=False):
            if day_start(day + timedelta(days=1)) <= before:
                cursor.execute(
                    f"SELECT count(*) FROM (SELECT FROM {_name(day)} LIMIT {OVERDUE_LIMIT}) found"  # noqa: S608
                )
                rows += cursor.fetchone()[0]
    return rows


def purged_record(*, turns: int, held: int, before: str, how: str) -> None:
    facts = {"turns": turns, "held": held, "before": before, "how": how}
    event_record(kind=actions.CONTENT_PURGED, stream=STREAM, actor_ref="", facts=facts)


def _name(day: date) -> str:
    return f"{TABLE}_p{day:%Y%m%d}"


def _missing(days: list[date]) -> list[date]:
    there = set(partition_days(attached=True)) | set(partition_days(attached=False))
    return [day for day in days if day not in there and not _default_holds(day)]


def _default_holds(day: date) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS (SELECT 1 FROM {DEFAULT} WHERE expires_at >= %s AND expires_at < %s)",  # noqa: S608
            [day_start(day), day_start(day + timedelta(days=1))],
        )
        return bool(cursor.fetchone()[0])


def _lock(cursor: CursorWrapper, keys: str) -> None:
    """In the order of a turn, which reads its key before it writes its content, or the two would wait for each other.

    A read of both tables takes them in the other order: of the two, this transaction is the one that gives up.
    """
    cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    cursor.execute(f"LOCK TABLE content_key IN {keys} MODE")
    cursor.execute(f"LOCK TABLE ONLY {TABLE} IN ACCESS EXCLUSIVE MODE")


def _unless_busy(task: str, act: Callable[[CursorWrapper], T]) -> T | None:
    """`act` in a transaction; None when it would have had to wait too long for a lock, or took too long itself."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            return act(cursor)
    except OperationalError as error:
        if isinstance(error.__cause__, errors.QueryCanceled):
            # Nothing that the next try is sure to have over, so it is told louder.
            log.warning("partitions.timed_out", task=task)
        elif isinstance(error.__cause__, errors.LockNotAvailable):
            log.info("partitions.busy", task=task)
        else:
            raise
        return None
