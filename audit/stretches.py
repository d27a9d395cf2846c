"""The log in pieces, each checked by itself: rows against their hashes, and whatever else the product knows of them."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import structlog
from django.db import connection
from django.db.models import Count, Max

from audit.merkle import HASH_BYTES
from audit.models import Leaf
from audit.reading import BEFORE_ALL, CHUNK, PLACES_END, Leaves, chunks, leaves_read
from audit.rows import Row, body_read, row_problems
from onesource.processes import process_pool

log = structlog.get_logger(__name__)
# A process takes a second to start, in which 20,000 events are checked.
WORTH_PROCESSES = 100_000
# Clocks of two machines differ by less, and no transaction lasts as long.
CLOCK_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable, `where` names the thing, `detail` is for a person. A notice is worth a look and no proof."""

    code: str
    where: str
    detail: str
    notice: bool = False


# Rows that hold in themselves, with their bodies: what else the product knows of them is checked by the caller. To be
# run in other processes it must be a function that can be imported.
Visitor = Callable[[Sequence[tuple[Row, dict[str, Any]]]], Iterable[Finding]]


@dataclass(slots=True)
class Seen:
    """Of a stream: how many events, and the highest number."""

    count: int = 0
    last: int = 0


@dataclass(slots=True)
class Stretch:
    """What was found in rows that follow each other; `first` and `last` are times and names of rows that hold."""

    events: int = 0
    indexes: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    first: tuple[str, str] | None = None
    last: tuple[str, str] | None = None


def stretches(visitor: Visitor | None, processes: int = 1) -> Iterator[Stretch]:
    """All of the log, in its order; on PostgreSQL a long one by so many processes."""
    if before := leaves_read(BEFORE_ALL[connection.vendor], 0):
        yield leaves_check(before, visitor)
    start = 0
    if processes > 1 and connection.vendor == "postgresql" and not connection.in_atomic_block:
        for stretch in _by_processes(visitor, processes):
            yield stretch
            start += CHUNK
    # What is left, and what was sealed meanwhile.
    for leaves in chunks(leaves_read, start):
        yield leaves_check(leaves, visitor)


def _by_processes(visitor: Visitor | None, processes: int) -> Iterator[Stretch]:
    """CHUNK places each, as far as all of them are taken now, if every place below is: somebody may have put a leaf
    where the log will never come."""
    leaves = Leaf.objects.filter(index__gte=0).aggregate(last=Max("index", default=-1), count=Count("index"))
    size = min(leaves["last"] + 1, leaves["count"])
    if size < WORTH_PROCESSES:
        return
    starts = range(0, size // CHUNK * CHUNK, CHUNK)
    with process_pool(processes) as pool:
        try:
            ahead = (pool.submit(stretch_at, start, start + CHUNK, visitor) for start in starts)
            waiting = deque(islice(ahead, 2 * processes))
            while waiting:
                stretch = waiting.popleft().result()
                waiting.extend(islice(ahead, 1))
                yield stretch
        except BrokenProcessPool:
            # Somebody killed one, or memory ran out: what is left is done by this process.
            log.warning("audit.verify_processes_lost", processes=processes)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def stretch_at(start: int, stop: int, visitor: Visitor | None) -> Stretch:
    return leaves_check(leaves_read(start, stop), visitor)


def leaves_check(leaves: Leaves, visitor: Visitor | None) -> Stretch:
    stretch = rows_check([row for *_, row in leaves if row], visitor)
    for index, event_id, sealed_hash, row in leaves:
        if not isinstance(index, int) or not 0 <= index < PLACES_END - 1:
            detail = f"its place in the log is {index!r}, which is none"
            stretch.findings.append(Finding("leaf_edited", f"event {event_id}", detail))
            continue
        if row is None:
            where = f"event {event_id} (leaf {index})"
            stretch.findings.append(Finding("event_deleted", where, "it was sealed and is gone"))
        if len(sealed_hash) != HASH_BYTES:
            detail = f"its hash has {len(sealed_hash)} bytes"
            stretch.findings.append(Finding("leaf_edited", f"leaf {index}", detail))
            sealed_hash = bytes(HASH_BYTES)
        stretch.indexes.append(index)
        stretch.hashes.append(sealed_hash)
    return stretch


def rows_check(rows: Iterable[Row], visitor: Visitor | None) -> Stretch:
    stretch = Stretch()
    bodies = []
    for row in rows:
        stretch.events += 1
        seen = stretch.seen[row.stream]
        seen.count += 1
        if isinstance(row.stream_seq, int):
            seen.last = max(seen.last, row.stream_seq)
        body = body_read(row.body)
        where = f"event {row.uid} ({'not sealed yet' if row.index is None else f'leaf {row.index}'})"
        problems = [Finding(code, where, detail) for code, detail in row_problems(row, body)]
        stretch.findings += problems
        if body and not problems:
            bodies.append((row, body))
            this = (row.at, where)
            stretch.findings += order_check(stretch.last, this)
            stretch.first, stretch.last = stretch.first or this, this
    if visitor and bodies:
        stretch.findings += visitor(bodies)
    return stretch


def order_check(before: tuple[str, str] | None, this: tuple[str, str]) -> list[Finding]:
    """Texts of one form compare as their times do; only of a step back it matters how far."""
    if before is None or this[0] >= before[0]:
        return []
    try:
        back = datetime.fromisoformat(before[0]) - datetime.fromisoformat(this[0])
    except (ValueError, TypeError):
        return [Finding("column_edited", this[1], f"its time {this[0]!r}, or the last one's, {before[0]!r}, is none")]
    if back <= CLOCK_TOLERANCE:
        return []
    detail = f"its time {this[0]} lies {back} before the last one's"
    return [Finding("out_of_time", this[1], detail, notice=True)]
