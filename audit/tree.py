"""The Merkle log as the database holds it."""

from audit.models import Checkpoint, Leaf, Tile
from audit.tiles import TileError, TileReader


def checkpoint_latest() -> Checkpoint | None:
    return Checkpoint.objects.order_by("-size").first()


def reader(size: int) -> TileReader:
    """Of the log when it had `size` leaves. Its methods raise TileError for what the database does not hold."""
    return TileReader(tile=_tile, roots=_roots, leaves=_leaves, size=size)


def _tile(level: int, index: int) -> bytes:
    hashes = Tile.objects.filter(level=level, index=index).values_list("hashes", flat=True).first()
    if hashes is None:
        raise TileError(f"tile {index} of level {level} is missing")
    return bytes(hashes)


def _roots(level: int, start: int, stop: int) -> list[bytes]:
    rows = Tile.objects.filter(level=level, index__gte=start, index__lt=stop).order_by("index")
    return [bytes(root) for root in rows.values_list("root", flat=True)]


def _leaves(start: int, stop: int) -> list[bytes]:
    rows = Leaf.objects.filter(index__gte=start, index__lt=stop).order_by("index")
    return [bytes(value) for value in rows.values_list("hash", flat=True)]
