"""Tiles of the Merkle log by C2SP tlog-tiles: 256 hashes each, the hash of a full tile is one hash of the next level.

Only full tiles are kept. A partial one is made from what lies below it: leaf hashes at level 0, the roots of full tiles
above. A right edge is the list of the partial tiles of a log, level 0 first, each 0 to 255 hashes in a row.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from audit.merkle import HASH_BYTES, NODE_PREFIX, Frontier, root_at

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

# 16 kB each: with this many, proofs of neighbouring leaves read every tile once.
_CACHED_TILES = 1024


class TileError(ValueError):
    """Stored hashes that are missing, too many or of another length, or a subtree that the log does not have."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A full tile: 8,192 bytes of hashes, and the hash of the tree over them (of 256 ** (level + 1) leaves)."""

    level: int
    index: int
    hashes: bytes
    root: bytes


def tiles_completed(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """(level, index) of each tile that becomes full when the log grows, level 0 first."""
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a log cannot grow from {old_size} to {new_size} leaves")
    found = []
    level = 0
    while full := new_size >> TILE_HEIGHT * (level + 1):
        found += [(level, index) for index in range(old_size >> TILE_HEIGHT * (level + 1), full)]
        level += 1
    return found


def tile_root(hashes: bytes) -> bytes:
    """The tree hash over a full tile. Raises TileError for another length."""
    if len(hashes) != TILE_BYTES:
        raise TileError(f"a full tile has {TILE_BYTES} bytes, not {len(hashes)}")
    for _ in range(TILE_HEIGHT):
        hashes = _parents(hashes)
    return hashes


def edge_root(size: int, right_edge: Sequence[bytes]) -> bytes:
    """The root of the log with this right edge. Raises TileError for an edge of another size."""
    _check_edge(size, right_edge)
    peaks: list[bytes] = []
    for hashes in reversed(right_edge):
        partial = Frontier()
        partial.extend(_split(hashes))
        peaks += partial.hashes
    return Frontier(size, peaks).root()


class TileBuilder:
    """Grows a log of `size` leaves with this right edge. Raises TileError for an edge of another size."""

    def __init__(self, size: int = 0, right_edge: Sequence[bytes] = ()) -> None:
        _check_edge(size, right_edge)
        self._size = size
        self._edge = list(right_edge)

    @property
    def size(self) -> int:
        return self._size

    @property
    def right_edge(self) -> list[bytes]:
        return list(self._edge)

    def root(self) -> bytes:
        return edge_root(self._size, self._edge)

    def extend(self, leaf_hashes: Iterable[bytes]) -> list[Tile]:
        """Appends leaves; returns the tiles that became full, in the order of `tiles_completed`."""
        row = list(leaf_hashes)
        if set(map(len, row)) - {HASH_BYTES}:
            raise TileError("a hash must have 32 bytes")
        index = self._size >> TILE_HEIGHT
        self._size += len(row)
        done: list[Tile] = []
        level = 0
        while row:
            if level == len(self._edge):
                self._edge.append(b"")
            hashes = self._edge[level] + b"".join(row)
            row = []
            full = len(hashes) - len(hashes) % TILE_BYTES
            for start in range(0, full, TILE_BYTES):
                tile = hashes[start : start + TILE_BYTES]
                row.append(tile_root(tile))
                done.append(Tile(level, index + start // TILE_BYTES, tile, row[-1]))
            self._edge[level] = hashes[full:]
            index >>= TILE_HEIGHT
            level += 1
        return done


class TileReader:
    """Hashes of a log of `size` leaves, read from its tiles and kept for the reader's life.

    tile(level, index): the 8,192 bytes of a full tile.
    roots(level, start, stop): the roots of the full tiles [start, stop) of a level.
    leaves(start, stop): the leaf hashes of [start, stop), fewer than 256.

    The log may have grown since: nothing beyond `size` is asked for. Raises TileError when a callable answers with
    another number of hashes, and for a subtree that is not complete at `size`.
    """

    def __init__(
        self,
        *,
        tile: Callable[[int, int], bytes],
        roots: Callable[[int, int, int], list[bytes]],
        leaves: Callable[[int, int], list[bytes]],
        size: int,
    ) -> None:
        if size < 0:
            raise TileError("a log cannot have a negative size")
        self.size = size
        self._tile = tile
        self._roots = roots
        self._leaves = leaves
        self._rows = lru_cache(maxsize=_CACHED_TILES)(self._read_rows)

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree over the leaves [index << level, (index + 1) << level)."""
        if level < 0 or index < 0 or (index + 1) << level > self.size:
            raise TileError(f"a log of size {self.size} has no complete subtree {index} of level {level}")
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, place = divmod(index, TILE_WIDTH >> height)
        start = place * HASH_BYTES
        return self._rows(tile_level, tile_index)[height][start : start + HASH_BYTES]

    def right_edge(self) -> list[bytes]:
        """What TileBuilder needs to go on from here."""
        edge = []
        level = 0
        while count := self.size >> TILE_HEIGHT * level:
            edge.append(self._rows(level, count >> TILE_HEIGHT)[0] if count % TILE_WIDTH else b"")
            level += 1
        return edge

    def root(self) -> bytes:
        return root_at(self.size, self.subtree)

    def _read_rows(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile, then level by level what is complete above them within the tile."""
        start = index << TILE_HEIGHT
        width = min((self.size >> TILE_HEIGHT * level) - start, TILE_WIDTH)
        if width == TILE_WIDTH:
            hashes = self._tile(level, index)
        elif level == 0:
            hashes = b"".join(self._leaves(start, start + width))
        else:
            hashes = b"".join(self._roots(level - 1, start, start + width))
        if len(hashes) != width * HASH_BYTES:
            raise TileError(f"tile {index} of level {level} has {len(hashes)} bytes, not {width * HASH_BYTES}")
        rows = [hashes]
        while len(rows[-1]) >= 2 * HASH_BYTES and len(rows) < TILE_HEIGHT:
            rows.append(_parents(rows[-1]))
        return rows


def _parents(hashes: bytes) -> bytes:
    """The nodes over each two hashes in a row; an odd one at the end has none."""
    pair = 2 * HASH_BYTES
    return b"".join(
        [sha256(NODE_PREFIX + hashes[at : at + pair]).digest() for at in range(0, len(hashes) - pair + 1, pair)]
    )


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def _check_edge(size: int, right_edge: Sequence[bytes]) -> None:
    if size < 0:
        raise TileError("a log cannot have a negative size")
    widths: list[int] = []
    while size >> TILE_HEIGHT * len(widths):
        widths.append((size >> TILE_HEIGHT * len(widths)) % TILE_WIDTH)
    if [len(hashes) for hashes in right_edge] != [width * HASH_BYTES for width in widths]:
        raise TileError(f"the right edge is not one of a log of size {size}")
