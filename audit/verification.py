"""Verification of the whole trail: every row against its hash, the log against its checkpoints, those against the ones
kept elsewhere. Names what does not hold; changes nothing."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from audit import notes
from audit.merkle import Frontier
from audit.models import Checkpoint, Event, Stream, Tile
from audit.notes import NoteError
from audit.publishing import checkpoint_read, published_files
from audit.reading import unsealed_read
from audit.rows import octets, time_text
from audit.signing import verifiers
from audit.stretches import Finding, Seen, Stretch, Visitor, order_check, rows_check, stretches
from audit.tiles import TILE_BYTES, TILE_HEIGHT, TILE_WIDTH, TileBuilder
from audit.triggers import triggers_wrong

SEALING_OVERDUE = timedelta(minutes=5)
NAMED_AT_MOST = 1_000
NUMBERS_NAMED = 20

Progress = Callable[[int], object]


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
        return all(finding.notice for finding in self.findings)

    def add(self, finding: Finding) -> None:
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= NAMED_AT_MOST:
            self.findings.append(finding)


def log_verify(
    *,
    progress: Progress | None = None,
    visitor: Visitor | None = None,
    counters: Callable[[], Iterator[tuple[str, int]]] | None = None,
    processes: int = 1,
) -> Report:
    """Reads everything once. `counters` gives (stream, last number) of streams that are numbered elsewhere; a long log
    on PostgreSQL is read by so many `processes`.

    Raises EnvError for keys that do not parse, and django.db.Error.
    """
    return _Verification(progress, visitor, counters, processes).run()


class _Verification:
    def __init__(
        self,
        progress: Progress | None,
        visitor: Visitor | None,
        counters: Callable[[], Iterator[tuple[str, int]]] | None,
        processes: int,
    ) -> None:
        self.report = Report()
        self._progress = progress
        self._visitor = visitor
        self._processes = processes
        # Before the events: whatever is appended meanwhile only adds to these.
        self._expected = dict(Stream.objects.values_list("name", "last_seq"))
        if counters:
            self._expected.update(counters())
        self._frontier = Frontier()
        self._tiles = TileBuilder()
        self._seen: dict[str, Seen] = defaultdict(Seen)
        self._last: tuple[str, str] | None = None
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
                text, _ = notes.note_open(octets(note).decode("utf-8", "replace"), trusted)
                signed = notes.Checkpoint.parse(text)
            except NoteError as error:
                self._find("checkpoint_forged", where, f"{error}")
                continue
            if (signed.size, signed.root) != (size, octets(root)):
                self._find("checkpoint_forged", where, "the row does not say what was signed")
            self._claim(where, signed)

    def _claim(self, where: str, signed: notes.Checkpoint) -> None:
        if signed.origin == settings.AUDIT_LOG_ORIGIN:
            self._claims[signed.size].append((where, signed.root))
        else:
            detail = f"it is of the log {signed.origin}, and is not held against this one"
            self._find("other_log", where, detail, notice=True)

    def _published_read(self) -> None:
        for path in published_files():
            self.report.published += 1
            where = f"published {path.parent.name}/{path.name}"
            try:
                published = checkpoint_read(path)
            except (OSError, NoteError) as error:
                self._find("published_unreadable", where, f"it is no checkpoint under a trusted key ({error})")
                continue
            self._claim(where, published)
        if settings.AUDIT_CHECKPOINT_DIR and self.report.checkpoints and not self.report.published:
            detail = "nothing is published there: it is not the right directory, or somebody has emptied it"
            self._find("published_missing", settings.AUDIT_CHECKPOINT_DIR, detail)

    # The log, leaf by leaf.

    def _log_walk(self) -> None:
        self._roots_compare()
        start = 0
        for stretch in stretches(self._visitor, self._processes):
            for index in stretch.indexes:
                if index != start:
                    self._find("leaf_missing", f"leaf {start}", f"the log goes on at leaf {index}")
                start = index + 1
            self._log_grow(stretch.hashes)
            self._take(stretch)
            if self._progress:
                self._progress(len(stretch.indexes))
        self._log_end()

    def _take(self, stretch: Stretch) -> None:
        self.report.events += stretch.events
        for stream, seen in stretch.seen.items():
            all_of_it = self._seen[stream]
            all_of_it.count += seen.count
            all_of_it.last = max(all_of_it.last, seen.last)
        if stretch.first:
            stretch.findings += order_check(self._last, stretch.first)
            self._last = stretch.last
        for finding in stretch.findings:
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
        stored = octets(row.hashes)
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
        elif octets(row.root) != root:
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
        tiles = list(Tile.objects.filter(level__gt=0).values_list("level", "index"))
        tiles += [
            (0, index)
            for index in Tile.objects.filter(level=0, index__gte=size // TILE_WIDTH).values_list("index", flat=True)
        ]
        # Read after the tiles, which are committed with their checkpoint: the log may have grown meanwhile.
        head = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
        if head < size:
            self._find("leaf_unsigned", f"leaves {head} to {size - 1}", "no checkpoint covers them")
        for level, index in tiles:
            if (index + 1) << TILE_HEIGHT * (level + 1) > max(head, size):
                self._find("tile_extra", f"tile {level}/{index}", "the log is not long enough for it")

    # What waits for its place.

    def _unsealed_walk(self) -> None:
        due = time_text(timezone.now() - SEALING_OVERDUE)
        overdue = 0
        last = -(2**63)
        while rows := unsealed_read(last):
            self.report.unsealed += len(rows)
            overdue += sum(row.at < due for _, row in rows)
            self._take(rows_check([row for _, row in rows], self._visitor))
            last = rows[-1][0]
        if overdue:
            self._find(
                "unsealed", f"{overdue} events", f"they have waited for a place in the log since over {SEALING_OVERDUE}"
            )

    # Gaps.

    def _streams_check(self) -> None:
        # What was sealed between two of our reads was in neither: the stream itself is asked before anything is said.
        for stream, seen in self._seen.items():
            if seen.count != seen.last and (missing := _numbers_missing(stream)):
                told = ", ".join(missing[:NUMBERS_NAMED]) + (", …" if len(missing) > NUMBERS_NAMED else "")
                self._find("stream_gap", f"stream {stream}", f"these are missing: {told}")
        for stream, last in self._expected.items():
            if self._seen[stream].last < last and (there := _number_last(stream)) < last:
                self._find("stream_truncated", f"stream {stream}", f"it was counted to {last}, and ends at {there}")


def _numbers_missing(stream: str) -> list[str]:
    """Numbers and ranges of numbers; no more than one over NUMBERS_NAMED."""
    missing: list[str] = []
    expected = 1
    for number in Event.objects.filter(stream=stream).order_by("stream_seq").values_list("stream_seq", flat=True):
        if not isinstance(number, int) or len(missing) > NUMBERS_NAMED:
            break
        if number > expected:
            missing.append(str(expected) if number == expected + 1 else f"{expected} to {number - 1}")
        expected = number + 1
    return missing


def _number_last(stream: str) -> int:
    last = Event.objects.filter(stream=stream).aggregate(last=Max("stream_seq"))["last"]
    return last if isinstance(last, int) else 0
