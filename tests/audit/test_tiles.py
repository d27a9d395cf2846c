"""Tiles by the formula of C2SP tlog-tiles: tile n of level l holds MTH(D[(n * 256 + i) * 256**l : ... + 256**l])."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    verify_consistency,
    verify_inclusion,
)
from audit.tiles import Tile, TileBuilder, TileError, TileReader, edge_root, tile_root, tiles_completed

# Two tiles of level 1 are full, and each level has a partial tile: 3 * 256**2 > SIZE > 2 * 256**2 + 256.
SIZE = 2 * 256**2 + 3 * 256 + 77
LEAVES = [hashlib.sha256(b"\x00%d" % index).digest() for index in range(SIZE)]


def layers() -> list[list[bytes]]:
    """The hashes of all complete subtrees, by level."""
    found = [LEAVES]
    while len(found[-1]) > 1:
        below = found[-1]
        found.append(
            [hashlib.sha256(b"\x01" + below[at] + below[at + 1]).digest() for at in range(0, len(below) - 1, 2)]
        )
    return found


LAYERS = layers()


def direct(level: int, index: int) -> bytes:
    return LAYERS[level][index]


def tile_by_formula(level: int, index: int) -> Tile:
    hashes = b"".join(LAYERS[8 * level][index * 256 : (index + 1) * 256])
    return Tile(level, index, hashes, LAYERS[8 * (level + 1)][index])


@pytest.fixture(scope="module")
def tiles() -> dict[tuple[int, int], Tile]:
    return {(tile.level, tile.index): tile for tile in TileBuilder().extend(LEAVES)}


Reading = Callable[[int], tuple[TileReader, list[Any]]]


@pytest.fixture(scope="module")
def reading(tiles: dict[tuple[int, int], Tile]) -> Reading:
    """Makes a reader of the log at an earlier size over tables that have all of it, and the list of what it read."""

    def make(size: int) -> tuple[TileReader, list[Any]]:
        reads: list[Any] = []

        def tile(level: int, index: int) -> bytes:
            reads.append(("tile", level, index))
            return tiles[level, index].hashes

        def roots(level: int, start: int, stop: int) -> list[bytes]:
            reads.append(("roots", level, start, stop))
            return [tiles[level, index].root for index in range(start, stop)]

        def leaves(start: int, stop: int) -> list[bytes]:
            reads.append(("leaves", start, stop))
            return LEAVES[start:stop]

        return TileReader(tile=tile, roots=roots, leaves=leaves, size=size), reads

    return make


# Building


def test_tiles_are_those_of_the_formula_bottom_up(tiles: dict[tuple[int, int], Tile]) -> None:
    assert list(tiles) == [(0, index) for index in range(2 * 256 + 3)] + [(1, 0), (1, 1)]
    assert all(tile == tile_by_formula(*place) for place, tile in tiles.items())
    assert {len(tile.hashes) for tile in tiles.values()} == {8192}


def test_the_sizes_of_the_specification_s_example() -> None:
    """tlog-tiles: 70,000 entries are 273 full tiles and 112 hashes, one full tile and 17 hashes, and one hash."""
    assert tiles_completed(0, 70_000) == [(0, index) for index in range(273)] + [(1, 0)]
    builder = TileBuilder()
    builder.extend(LEAVES[:70_000])
    assert [len(hashes) // 32 for hashes in builder.right_edge] == [112, 17, 1]


def test_the_tiles_completed_are_those_that_are_built() -> None:
    builder = TileBuilder()
    for old, new in [(0, 0), (0, 255), (255, 256), (256, 256), (256, 1000), (1000, 65_535), (65_535, SIZE)]:
        built = builder.extend(LEAVES[old:new])
        assert [(tile.level, tile.index) for tile in built] == tiles_completed(old, new)
    assert builder.size == SIZE


@pytest.mark.parametrize(("old", "new"), [(-1, 0), (1, 0), (-2, -1)])
def test_a_log_does_not_shrink(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="cannot grow"):
        tiles_completed(old, new)


def test_a_restart_at_any_size_gives_the_same_tiles() -> None:
    whole = TileBuilder()
    expected = whole.extend(LEAVES[:600])
    for size in range(601):
        first = TileBuilder()
        before = first.extend(LEAVES[:size])
        second = TileBuilder(first.size, first.right_edge)
        after = second.extend(LEAVES[size:600])
        assert sorted([*before, *after], key=lambda tile: (tile.level, tile.index)) == expected
        assert (second.size, second.right_edge) == (whole.size, whole.right_edge)


@given(st.lists(st.integers(0, 700), max_size=8))
def test_batches_of_any_size_give_the_same_edge_and_root(batches: list[int]) -> None:
    builder, frontier = TileBuilder(), Frontier()
    built = []
    for batch in batches:
        leaves = LEAVES[builder.size : builder.size + batch]
        built += builder.extend(leaves)
        frontier.extend(leaves)
    assert (builder.size, builder.root()) == (frontier.size, frontier.root())
    assert all(tile == tile_by_formula(tile.level, tile.index) for tile in built)


def test_one_leaf_at_a_time_completes_a_tile_of_level_1() -> None:
    start = 256**2 - 3
    head = TileBuilder()
    head.extend(LEAVES[:start])
    built = [head.extend([leaf]) for leaf in LEAVES[start : start + 5]]
    assert built == [[], [], [tile_by_formula(0, 255), tile_by_formula(1, 0)], [], []]


@pytest.mark.parametrize(
    ("size", "edge"),
    [
        (-1, []),
        (0, [b""]),
        (1, []),
        (1, [bytes(31)]),
        (2, [bytes(32)]),
        (256, [b""]),
        (256, [bytes(32), bytes(32)]),
        (257, [bytes(32), bytes(64)]),
        (257, [bytes(32), bytes(32), b""]),
    ],
)
def test_an_edge_of_another_size_is_refused(size: int, edge: list[bytes]) -> None:
    with pytest.raises(TileError):
        TileBuilder(size, edge)
    with pytest.raises(TileError):
        edge_root(size, edge)


def test_a_hash_of_another_length_is_refused_and_changes_nothing() -> None:
    builder = TileBuilder()
    with pytest.raises(TileError, match="32 bytes"):
        builder.extend([LEAVES[0], bytes(31), bytes(33)])
    assert (builder.size, builder.right_edge) == (0, [])


def test_the_root_of_a_tile_is_that_of_its_leaves() -> None:
    assert tile_root(b"".join(LEAVES[256:512])) == direct(8, 1)
    with pytest.raises(TileError, match="8192 bytes, not 8160"):
        tile_root(bytes(8160))


# Reading


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 131_072, SIZE])
def test_every_complete_subtree_is_read_as_it_is(reading: Reading, size: int) -> None:
    reader, _ = reading(size)
    for level in range(size.bit_length()):
        count = size >> level
        for index in {*range(min(count, 300)), *range(max(0, count - 300), count)}:
            assert reader.subtree(level, index) == direct(level, index)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 70_000, 65_536, 131_072, SIZE])
def test_root_and_edge_are_those_of_the_log_at_that_size(reading: Reading, size: int) -> None:
    reader, _ = reading(size)
    frontier, builder = Frontier(), TileBuilder()
    frontier.extend(LEAVES[:size])
    builder.extend(LEAVES[:size])
    assert reader.root() == builder.root() == edge_root(size, reader.right_edge()) == frontier.root()
    assert reader.right_edge() == builder.right_edge


def test_a_builder_goes_on_from_what_a_reader_found(reading: Reading) -> None:
    for size in range(0, 1000, 7):
        reader, _ = reading(size)
        builder = TileBuilder(size, reader.right_edge())
        built = builder.extend(LEAVES[size:1100])
        assert built == [tile_by_formula(*place) for place in tiles_completed(size, 1100)]


def test_proofs_at_every_size_up_to_600_are_the_direct_ones(reading: Reading) -> None:
    for size in range(1, 601):
        reader, _ = reading(size)
        for index in {0, size // 3, size // 2, size - 1}:
            assert inclusion_proof(index, size, reader.subtree) == inclusion_proof(index, size, direct)
            assert consistency_proof(index + 1, size, reader.subtree) == consistency_proof(index + 1, size, direct)


def test_proofs_of_a_log_with_three_levels_verify(reading: Reading) -> None:
    reader, _ = reading(SIZE)
    for index in [0, 255, 256, 65_535, 65_536, 131_071, 131_072, 131_500, SIZE - 1]:
        proof = inclusion_proof(index, SIZE, reader.subtree)
        verify_inclusion(LEAVES[index], index, SIZE, proof, reader.root())
        older, _ = reading(index + 1)
        proof = consistency_proof(index + 1, SIZE, reader.subtree)
        verify_consistency(index + 1, SIZE, older.root(), reader.root(), proof)


def test_a_proof_reads_each_tile_on_its_path_once(reading: Reading) -> None:
    reader, reads = reading(SIZE)
    inclusion_proof(70_000, SIZE, reader.subtree)
    assert sorted(reads) == [
        ("leaves", SIZE - 77, SIZE),
        ("roots", 0, 512, 515),
        ("roots", 1, 0, 2),
        ("tile", 0, 273),
        ("tile", 1, 1),
    ]
    reads.clear()
    inclusion_proof(70_001, SIZE, reader.subtree)
    assert reads == []


def test_a_reader_of_an_earlier_size_reads_nothing_beyond_it(reading: Reading) -> None:
    reader, reads = reading(300)
    assert reader.root() == edge_root(300, reader.right_edge())
    assert sorted(reads) == [("leaves", 256, 300), ("roots", 0, 0, 1)]


@pytest.mark.parametrize(("level", "index"), [(0, 300), (8, 1), (9, 0), (-1, 0), (0, -1), (400, 0)])
def test_a_subtree_that_is_not_complete_is_refused(reading: Reading, level: int, index: int) -> None:
    reader, reads = reading(300)
    with pytest.raises(TileError, match="no complete subtree"):
        reader.subtree(level, index)
    assert reads == []


def test_missing_hashes_are_noticed() -> None:
    reader = TileReader(tile=lambda *_: bytes(8160), roots=lambda *_: [], leaves=lambda *_: [bytes(32)], size=1000)
    for level, index in [(0, 0), (0, 999), (8, 0)]:
        with pytest.raises(TileError, match="bytes, not"):
            reader.subtree(level, index)


def test_a_reader_of_nothing() -> None:
    reader = TileReader(tile=lambda *_: b"", roots=lambda *_: [], leaves=lambda *_: [], size=0)
    assert (reader.root(), reader.right_edge()) == (EMPTY_ROOT, [])
    with pytest.raises(TileError, match="negative"):
        TileReader(tile=lambda *_: b"", roots=lambda *_: [], leaves=lambda *_: [], size=-1)
