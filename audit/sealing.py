"""Sealing: events are given their places in the Merkle log, and each state of the log a signed checkpoint.

One process at a time, under a lock of the database; leaves, tiles and checkpoint are one transaction, so that a sealer
may be killed anywhere. Events are taken because they have no leaf, never because their id is higher than the last one
taken: an id can be committed below one that is in the log already. Published is only what is committed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.db.models import Min
from django.utils import timezone

from audit import actions, metrics, notes
from audit.models import Checkpoint, Event, SigningKey, Tile
from audit.publishing import LogForked, checkpoints_publish, published_check
from audit.services import event_record
from audit.signing import signer
from audit.tiles import TileBuilder
from audit.tree import checkpoint_latest, reader
from audit.triggers import triggers_wrong

log = structlog.get_logger(__name__)
BATCH_EVENTS = 20_000
DUE_EVENTS = 1_000
DUE_AGE = timedelta(seconds=10)
# No transaction of ours lives that long (idle_in_transaction_session_timeout, statement_timeout): by then every lower
# id was committed or never will be. What somebody else's commits later still, the sweep finds.
SETTLED_AFTER = timedelta(minutes=10)
# Also an id that no sequence gave: somebody with the owner's rights did.
NO_FLOOR = -(2**63)
SWEEP_SECONDS = 3600
# Nothing but a person can mend it.
FORKED_SECONDS = 60
SWEEP_IDS = 100_000
LOCK_KEY = int.from_bytes(b"auditlog", "big", signed=True)
STREAM = "log"

# PostgreSQL does not conclude that what it looks for among the leaves is above the floor as well: unless told it goes
# through all of their index, ever longer.
# A leaf that is no hash has no place: whoever can add rows could stop the sealing by it. `audit verify` names it.
TAKE = """
INSERT INTO audit_leaf ("index", event_id, hash)
SELECT %s + row_number() OVER (ORDER BY id) - 1, id, leaf
FROM (
    SELECT e.id, e.leaf FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id AND l.event_id > %s
    WHERE e.id > %s AND l.event_id IS NULL AND {hash} ORDER BY e.id LIMIT %s
) AS unsealed
RETURNING "index", event_id, hash
"""
UNSEALED = """
SELECT count(*), min(at) FROM (
    SELECT e.at FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id AND l.event_id > %s
    WHERE e.id > %s AND l.event_id IS NULL ORDER BY e.id LIMIT %s
) AS unsealed
"""
MISSED = """
SELECT min(e.id) FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id
WHERE e.id > %s AND e.id <= %s AND l.event_id IS NULL AND {hash}
"""
# SQLite would take a text for it, of so many letters.
IS_HASH = {"postgresql": "length(e.leaf) = 32", "sqlite": "typeof(e.leaf) = 'blob' AND length(e.leaf) = 32"}


class SealingElsewhere(Exception):
    """Another process holds the sealer's lock."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """Events without a leaf: how many (counted up to a limit), and since when the oldest of them waits."""

    events: int
    since: datetime | None

    @property
    def age(self) -> timedelta:
        return timezone.now() - self.since if self.since else timedelta()


def unsealed(limit: int = DUE_EVENTS) -> Unsealed:
    with connection.cursor() as cursor:
        floor = settled_floor()
        cursor.execute(UNSEALED, [floor, floor, limit])
        count, since = cursor.fetchone()
    if isinstance(since, str):
        since = datetime.fromisoformat(since).replace(tzinfo=timezone.get_default_timezone())
    return Unsealed(count, since)


def settled_floor() -> int:
    """An id at or below which every event is in the log, but for what only the sweep finds."""
    settled = Checkpoint.objects.filter(at__lt=timezone.now() - SETTLED_AFTER).order_by("-size").first()
    return settled.event_ceiling if settled else NO_FLOOR


class Sealer:
    """The job of the worker. Called often: it seals when DUE_EVENTS wait, or one has waited for DUE_AGE."""

    def __init__(self) -> None:
        self._sweep_at = self._resume_at = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() < self._resume_at:
            return
        try:
            self._run()
        except LogForked:
            self._resume_at = time.monotonic() + FORKED_SECONDS
            raise
        except SealingElsewhere:
            # Somebody's `audit seal`: what it leaves is for the next run.
            return

    def _run(self) -> None:
        waiting = unsealed()
        if waiting.events >= DUE_EVENTS or waiting.age >= DUE_AGE:
            log_seal()
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            self._sweep()
        checkpoints_publish()

    def _sweep(self) -> None:
        wrong = triggers_wrong()
        metrics.TRIGGERS_WRONG.set(len(wrong))
        if wrong:
            log.error("audit.triggers_wrong", triggers=wrong)
        if (floor := missed_floor()) is not None:
            log.warning("audit.events_missed", after_id=floor)
            log_seal(floor=floor)


def log_seal(*, floor: int | None = None, progress: Callable[[int], object] | None = None) -> int:
    """Seals all that waits above `floor` and returns how many events that were.

    Raises SealingElsewhere, publishing.LogForked when a published checkpoint does not fit the log (nothing is sealed
    then: a signature under a second history would make both worthless), and tiles.TileError for a damaged log.
    """
    published_check()
    floor = settled_floor() if floor is None else floor
    total = 0
    started = time.perf_counter()
    while True:
        count, floor = _batch_seal(floor)
        total += count
        if progress:
            progress(count)
        if count < BATCH_EVENTS:
            break
    if total:
        metrics.SEALED.inc(total)
        metrics.SEAL_SECONDS.observe(time.perf_counter() - started)
        log.info("audit.sealed", events=total, milliseconds=round((time.perf_counter() - started) * 1000))
    return total


def missed_floor() -> int | None:
    """Just below the lowest event without a leaf among those that count as settled; None when there is none."""
    ceiling = settled_floor()
    start = NO_FLOOR
    with connection.cursor() as cursor:
        # From one id that is there to the next, however far apart.
        while (first := Event.objects.filter(pk__gt=start).aggregate(first=Min("id"))["first"]) is not None:
            if first > ceiling:
                break
            start = min(first + SWEEP_IDS, ceiling)
            cursor.execute(MISSED.format(hash=IS_HASH[connection.vendor]), [first - 1, start])
            (missed,) = cursor.fetchone()
            if missed is not None:
                return int(missed) - 1
    return None


def _batch_seal(floor: int) -> tuple[int, int]:
    """One batch: how many events, and the highest id among them (or `floor`)."""
    with transaction.atomic(durable=True):
        _lock()
        head = checkpoint_latest()
        size = head.size if head else 0
        _key_announce()
        with connection.cursor() as cursor:
            cursor.execute(TAKE.format(hash=IS_HASH[connection.vendor]), [size, floor, floor, BATCH_EVENTS])
            # In whatever order.
            leaves = sorted(cursor.fetchall())
        if not leaves:
            return 0, floor
        highest: int = leaves[-1][1]
        ceiling = max(min(highest, _last_id(highest)), head.event_ceiling if head else NO_FLOOR)
        _log_extend(size, [bytes(value) for _, _, value in leaves], ceiling)
    return len(leaves), highest


def _last_id(highest: int) -> int:
    """The last id that the sequence gave: one that somebody chose, far above, must not hide what comes below it."""
    if connection.vendor != "postgresql":
        return highest
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sequence_last_value(pg_get_serial_sequence('audit_event', 'id')::regclass)")
        (last,) = cursor.fetchone()
    return int(last) if last is not None else highest


def _log_extend(size: int, hashes: list[bytes], ceiling: int) -> None:
    builder = TileBuilder(size, reader(size).right_edge())
    tiles = builder.extend(hashes)
    Tile.objects.bulk_create(
        [Tile(level=tile.level, index=tile.index, hashes=tile.hashes, root=tile.root) for tile in tiles], batch_size=50
    )
    root = builder.root()
    text = notes.Checkpoint(signer().name, builder.size, root).text()
    Checkpoint.objects.create(
        size=builder.size, root=root, note=signer().sign(text), at=timezone.now(), event_ceiling=ceiling
    )


def _lock() -> None:
    """Raises SealingElsewhere. On SQLite the transaction itself is the only writer."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY])
        if not cursor.fetchone()[0]:
            raise SealingElsewhere
        # What is published must not be taken back by a crash, whatever the server's default is.
        cursor.execute("SET LOCAL synchronous_commit = on")
        # Of `length(leaf) = 32` the planner guesses that one row of 200 is so, and would sort all for each batch.
        cursor.execute("SET LOCAL enable_sort = off")


def _key_announce() -> None:
    """The first use of a signing key is an event, so that a change of keys is itself under the log."""
    vkey = signer().vkey
    known = list(SigningKey.objects.order_by("-first_used_at").values_list("vkey", flat=True))
    if vkey in known:
        return
    SigningKey.objects.create(vkey=vkey, first_used_at=timezone.now())
    facts = {"vkey": vkey, "before": known[0] if known else ""}
    event_record(kind=actions.SIGNING_KEY_USED, stream=STREAM, actor_ref="", facts=facts)
