"""Verification of the whole trail: every row against its hash, the log against its checkpoints, those against the ones
kept elsewhere. Names what does not hold; changes nothing."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from audit import notes
from audit.merkle import Frontier
from audit.models import Checkpoint, Event, Stream, Tile
from audit.notes import NoteError
from audit.publishing import checkpoint_read, published_files
from audit.rows import Row, body_read, row_problems
from audit.signing import verifiers
from audit.tiles import TILE_BYTES, TILE_WIDTH, TileBuilder, tiles_completed
from audit.triggers import triggers_wrong
from audit.verifying import row_of

CHUNK = 5_000
SEALING_OVERDUE = timedelta(minutes=5)
# Clocks of two machines differ by less, and no transaction lasts as long.
CLOCK_TOLERANCE = timedelta(hours=1)
NAMED_AT_MOST = 1_000

READ = """
SELECT l."index", l.event_id, l.hash, e.id, e.uid, e.at, e.kind, e.stream, e.stream_seq, e.actor_ref, e.body, e.leaf
FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id
WHERE l."index" >= %s ORDER BY l."index" LIMIT %s
"""

Progress = Callable[[int], object]
# Rows that hold in themselves, with their bodies: what else the product knows of them is checked by the caller.
Visitor = Callable[[Sequence[tuple[Row, dict[str, Any]]]], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable, `where` names the thing, `detail` is for a person. A notice is worth a look and no proof."""

    code: str
    where: str
    detail: str
    notice: bool = False


@dataclass
class Report:
    events: int = 0
    unsealed: int = 0
    checkpoints: int = 0
    published: int = 0
    findings: list[Finding] = field(default_factory=list)
    # By code, also those beyond NAMED_AT_MOST.
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def ok(self) -> bool:
        return not any(not finding.notice for finding in self.findings)

    def add(self, finding: Finding) -> None:
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= NAMED_AT_MOST:
            self.findings.append(finding)


def log_verify(
    *,
    progress: Progress | None = None,
    visitor: Visitor | None = None,
    counters: Callable[[], Iterator[tuple[str, int]]] | None = None,
) -> Report:
    """Reads everything once. `counters` gives (stream, last number) of streams that are numbered elsewhere.

    Raises EnvError for keys that do not parse, and django.db.Error.
    """
    return _Verification(progress, visitor, counters).run()


class _Verification:
    def __init__(
        self,
        progress: Progress | None,
        visitor: Visitor | None,
        counters: Callable[[], Iterator[tuple[str, int]]] | None,
    ) -> None:
        self.report = Report()
        self._progress = progress
        self._visitor = visitor
        # Before the events: whatever is appended meanwhile only adds to these.
        self._expected = dict(Stream.objects.values_list("name", "last_seq"))
        if counters:
            self._expected.update(counters())
        self._frontier = Frontier()
        self._tiles = TileBuilder()
        self._seen: dict[str, _Seen] = defaultdict(_Seen)
        self._previous_at: datetime | None = None
        # Sizes at which something outside the walk claims to know the root.
        self._claims: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
        self._sizes: list[int] = []

    def run(self) -> Report:
        for name in triggers_wrong():
            self._find("trigger", name, "the append-only trigger is missing, switched off or changed")
        self._checkpoints_read()
        self._published_read()
        self._sizes = sorted(self._claims)
        self._log_walk()
        self._unsealed_walk()
        self._streams_check()
        return self.report

    def _find(self, code: str, where: str, detail: str, *, notice: bool = False) -> None:
        self.report.add(Finding(code, where, detail, notice))

    # Checkpoints: in the table, and elsewhere.

    def _checkpoints_read(self) -> None:
        trusted = verifiers()
        for size, root, note in Checkpoint.objects.order_by("size").values_list("size", "root", "note").iterator():
            self.report.checkpoints += 1
            where = f"checkpoint {size}"
            try:
                text, _ = notes.note_open(note, trusted)
                signed = notes.Checkpoint.parse(text)
            except NoteError as error:
                self._find("checkpoint_forged", where, f"{error}")
                continue
            if (signed.size, signed.root) != (size, bytes(root)):
                self._find("checkpoint_forged", where, "the row does not say what was signed")
            self._claims[signed.size].append((where, signed.root))

    def _published_read(self) -> None:
        for path in published_files():
            self.report.published += 1
            where = f"published {path.parent.name}/{path.name}"
            try:
                published = checkpoint_read(path)
            except (OSError, NoteError) as error:
                self._find("published_unreadable", where, f"it is no checkpoint under a trusted key ({error})")
                continue
            self._claims[published.size].append((where, published.root))

    # The log, leaf by leaf.

    def _log_walk(self) -> None:
        self._roots_compare()
        start = 0
        while rows := self._leaves_read(start):
            sound = []
            for index, event_id, _, row in rows:
                if index != start:
                    self._find("leaf_missing", f"leaf {start}", f"the log goes on at leaf {index}")
                start = index + 1
                if row is None:
                    self._find("event_deleted", f"event {event_id} (leaf {index})", "it was sealed and is gone")
                elif body := self._row_check(row):
                    sound.append((row, body))
            self._log_grow([sealed_hash for _, _, sealed_hash, _ in rows])
            self._visit(sound)
            if self._progress:
                self._progress(len(rows))
        self._log_end()

    def _leaves_read(self, start: int) -> list[tuple[int, int, bytes, Row | None]]:
        with connection.cursor() as cursor:
            cursor.execute(READ, [start, CHUNK])
            found = cursor.fetchall()
        return [(entry[0], entry[1], bytes(entry[2]), _row(entry)) for entry in found]

    def _row_check(self, row: Row) -> dict[str, Any] | None:
        """The body when nothing about the row is wrong."""
        self.report.events += 1
        seen = self._seen[row.stream]
        seen.count += 1
        seen.last = max(seen.last, row.stream_seq)
        body = body_read(row.body)
        where = f"event {row.uid} ({'not sealed yet' if row.index is None else f'leaf {row.index}'})"
        sound = True
        for code, detail in row_problems(row, body):
            self._find(code, where, detail)
            sound = False
        if self._previous_at and row.at < self._previous_at - CLOCK_TOLERANCE:
            detail = (
                f"its time {row.at:%Y-%m-%d %H:%M:%S} lies {self._previous_at - row.at} before that of the leaf before"
            )
            self._find("out_of_time", where, detail, notice=True)
        self._previous_at = row.at
        return body if sound else None

    def _visit(self, sound: Sequence[tuple[Row, dict[str, Any]]]) -> None:
        if self._visitor and sound:
            for finding in self._visitor(sound):
                self.report.add(finding)

    def _log_grow(self, hashes: list[bytes]) -> None:
        """The frontier stops at each size of which a root is claimed; full tiles are compared as they come up."""
        size = self._tiles.size
        start = 0
        while self._sizes and self._sizes[0] <= size + len(hashes):
            stop = self._sizes[0] - size
            self._frontier.extend(hashes[start:stop])
            start = stop
            self._roots_compare()
        self._frontier.extend(hashes[start:])
        made = {(tile.level, tile.index): tile for tile in self._tiles.extend(hashes)}
        for level in {level for level, _ in made}:
            indexes = [index for of, index in made if of == level]
            stored = Tile.objects.filter(level=level, index__gte=min(indexes), index__lte=max(indexes))
            rows = {tile.index: tile for tile in stored}
            for index in indexes:
                self._tile_compare(made[level, index].hashes, made[level, index].root, rows.get(index), level, index)

    def _tile_compare(self, hashes: bytes, root: bytes, row: Tile | None, level: int, index: int) -> None:
        where = f"tile {level}/{index}"
        if row is None:
            self._find("tile_missing", where, "the log is long enough for it")
            return
        stored = bytes(row.hashes)
        if stored != hashes:
            width = TILE_BYTES // TILE_WIDTH
            other = [
                at
                for at in range(TILE_WIDTH)
                if stored[at * width : (at + 1) * width] != hashes[at * width : (at + 1) * width]
            ]
            places = ", ".join(str(index * TILE_WIDTH + at) for at in other[:5]) + (", …" if len(other) > 5 else "")
            what = "leaf" if level == 0 else f"tile {level - 1}/"
            self._find("tile_differs", where, f"the hashes of {what} {places} are not those of the log today")
        elif bytes(row.root) != root:
            self._find("tile_differs", where, "its root is not that of its hashes")

    def _roots_compare(self) -> None:
        while self._sizes and self._sizes[0] == self._frontier.size:
            size = self._sizes.pop(0)
            for where, root in self._claims[size]:
                if root != self._frontier.root():
                    self._find("root_differs", where, f"the first {size} leaves have another root than was signed")

    def _log_end(self) -> None:
        size = self._frontier.size
        for claimed in self._sizes:
            for where, _ in self._claims[claimed]:
                detail = (
                    f"signed for {claimed} leaves, and the log has {size}: its end is cut off, or this is an old copy"
                )
                self._find("log_truncated", where, detail)
        head = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
        if head < size:
            self._find("leaf_unsigned", f"leaves {head} to {size - 1}", "no checkpoint covers them")
        expected = set(tiles_completed(0, size))
        for level, index in Tile.objects.exclude(level=0).values_list("level", "index").iterator():
            if (level, index) not in expected:
                self._find("tile_extra", f"tile {level}/{index}", "the log is not long enough for it")
        full = size // TILE_WIDTH
        for index in Tile.objects.filter(level=0, index__gte=full).values_list("index", flat=True):
            self._find("tile_extra", f"tile 0/{index}", "the log is not long enough for it")

    # What waits for its place.

    def _unsealed_walk(self) -> None:
        now = timezone.now()
        overdue = 0
        waiting = Event.objects.filter(log_leaf=None).order_by("id")
        for event in waiting.iterator(CHUNK):
            self.report.unsealed += 1
            overdue += event.at < now - SEALING_OVERDUE
            row = row_of(event)
            if body := self._row_check(row):
                self._visit([(row, body)])
        if overdue:
            self._find(
                "unsealed", f"{overdue} events", f"they have waited for a place in the log since over {SEALING_OVERDUE}"
            )

    # Gaps.

    def _streams_check(self) -> None:
        for stream, seen in self._seen.items():
            if seen.count != seen.last:
                missing = _numbers_missing(stream, seen.last)
                told = ", ".join(map(str, missing[:20])) + (", …" if len(missing) > 20 else "")
                self._find(
                    "stream_gap", f"stream {stream}", f"of {seen.last} events these are missing: {told or 'none'}"
                )
        for stream, last in self._expected.items():
            if self._seen[stream].last < last:
                self._find(
                    "stream_truncated",
                    f"stream {stream}",
                    f"it was counted to {last}, and ends at {self._seen[stream].last}",
                )


@dataclass(slots=True)
class _Seen:
    count: int = 0
    last: int = 0


def _row(entry: tuple[Any, ...]) -> Row | None:
    index, _, sealed_hash, pk, uid, at, kind, stream, seq, actor, body, leaf = entry
    if pk is None:
        return None
    return Row(pk, _uuid(uid), _time(at), kind, stream, seq, actor, bytes(body), bytes(leaf), index, bytes(sealed_hash))


def _uuid(value: Any) -> uuid.UUID:
    # SQLite has them as text.
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _time(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _numbers_missing(stream: str, last: int) -> list[int]:
    there = set(Event.objects.filter(stream=stream).values_list("stream_seq", flat=True))
    return [number for number in range(1, last + 1) if number not in there]
