"""The hashes and proofs of the log, by tests/vectors/rfc6962.json and by the definitions of RFC 6962, section 2.1."""

import hashlib
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from tests.environment import ROOT

VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/rfc6962.json").read_text(encoding="utf-8"))
INPUTS = [bytes.fromhex(leaf) for leaf in VECTORS["leaf_inputs_hex"]]
LARGEST = 257
LEAVES = [hashlib.sha256(b"\x00" + str(index).encode()).digest() for index in range(LARGEST)]


# RFC 6962, section 2.1, by its definitions: D[start:stop] in place of D[n]


def k(n: int) -> int:
    power = 1
    while power * 2 < n:
        power *= 2
    return power


@cache
def mth(start: int, stop: int) -> bytes:
    n = stop - start
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return LEAVES[start]
    middle = start + k(n)
    return hashlib.sha256(b"\x01" + mth(start, middle) + mth(middle, stop)).digest()


def path(m: int, start: int, stop: int) -> list[bytes]:
    n = stop - start
    if n == 1:
        return []
    middle = start + k(n)
    if m < k(n):
        return [*path(m, start, middle), mth(middle, stop)]
    return [*path(m - k(n), middle, stop), mth(start, middle)]


def subproof(m: int, start: int, stop: int, known: bool) -> list[bytes]:
    n = stop - start
    if m == n:
        return [] if known else [mth(start, stop)]
    middle = start + k(n)
    if m <= k(n):
        return [*subproof(m, start, middle, known), mth(middle, stop)]
    return [*subproof(m - k(n), middle, stop, False), mth(start, middle)]


def complete(level: int, index: int) -> bytes:
    """A hash source that, like a log of these leaves, knows complete subtrees only."""
    start, stop = index << level, (index + 1) << level
    assert stop <= LARGEST
    return mth(start, stop)


def flipped(value: bytes, position: int) -> bytes:
    return value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]


def ruined(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that differ from `proof`: a hash flipped, dropped, added, exchanged, or of another length."""
    found = [[*proof, LEAVES[0]], [LEAVES[0], *proof]]
    for at, value in enumerate(proof):
        found += [[*proof[:at], flipped(value, byte), *proof[at + 1 :]] for byte in (0, 15, 31)]
        found += [[*proof[:at], *proof[at + 1 :]], [*proof[:at], value[:31], *proof[at + 1 :]]]
        found += [[*proof[:at], proof[at + 1], value, *proof[at + 2 :]]] if at + 1 < len(proof) else []
    return [other for other in found if other != proof]


# Hashes


def test_a_leaf_is_the_published_one() -> None:
    leaf = VECTORS["leaf"]
    assert leaf_hash(leaf["input_utf8"].encode()).hex() == leaf["hash_hex"]


def test_a_node_is_the_published_one() -> None:
    node = VECTORS["node"]
    assert node_hash(node["left_utf8"].encode(), node["right_utf8"].encode()).hex() == node["hash_hex"]


def test_a_leaf_cannot_be_taken_for_a_node() -> None:
    node = VECTORS["node"]
    assert leaf_hash((node["left_utf8"] + node["right_utf8"]).encode()).hex() != node["hash_hex"]


def test_the_empty_log_has_the_hash_of_nothing() -> None:
    assert EMPTY_ROOT.hex() == VECTORS["roots_hex_by_size"][0]
    assert root([]) == Frontier().root() == root_at(0, complete) == EMPTY_ROOT


@pytest.mark.parametrize("size", range(len(VECTORS["roots_hex_by_size"])))
def test_roots_are_the_published_ones(size: int) -> None:
    assert root([leaf_hash(entry) for entry in INPUTS[:size]]).hex() == VECTORS["roots_hex_by_size"][size]


# The right edge


def test_the_frontier_has_the_root_of_the_definition_at_every_size() -> None:
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES, 1):
        frontier.append(leaf)
        assert frontier.size == size
        assert frontier.root() == root(LEAVES[:size]) == root_at(size, complete) == mth(0, size)


def test_a_frontier_goes_on_from_its_hashes_at_every_size() -> None:
    for size in range(LARGEST):
        first = Frontier()
        first.extend(LEAVES[:size])
        second = Frontier(first.size, first.hashes)
        second.extend(iter(LEAVES[size:]))
        assert (second.size, second.root()) == (LARGEST, mth(0, LARGEST))
        assert first.root() == mth(0, size)


def test_more_than_one_chunk_at_a_time_gives_the_same_edge() -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(10_001)]
    one, many = Frontier(), Frontier()
    for leaf in leaves:
        one.append(leaf)
    many.extend(leaves[:3])
    many.extend(leaves[3:])
    assert (one.size, one.hashes) == (many.size, many.hashes)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_batches_of_any_size_give_the_edge_of_single_appends(batches: list[int]) -> None:
    one, many = Frontier(), Frontier()
    for batch in batches:
        leaves = (LEAVES * 2)[one.size : one.size + batch]
        many.extend(leaves)
        for leaf in leaves:
            one.append(leaf)
    assert (one.size, one.hashes) == (many.size, many.hashes)


@pytest.mark.parametrize(
    ("size", "hashes"), [(-1, []), (0, [LEAVES[0]]), (3, [LEAVES[0]]), (1, []), (1, [b"short"]), (1, [bytes(33)])]
)
def test_hashes_that_do_not_fit_the_size_are_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"size|32 bytes"):
        Frontier(size, hashes)


def test_a_hash_of_another_length_is_not_appended() -> None:
    frontier = Frontier()
    with pytest.raises(ValueError, match="32 bytes"):
        frontier.append(bytes(31))
    with pytest.raises(ValueError, match="32 bytes"):
        frontier.extend([LEAVES[0], bytes(33)])
    assert (frontier.size, frontier.hashes) == (0, [])


# Inclusion


def test_inclusion_proofs_are_those_of_the_definition_and_verify() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, complete)
            assert proof == path(index, 0, size)
            verify_inclusion(LEAVES[index], index, size, proof, mth(0, size))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 100, 257])
def test_a_ruined_inclusion_proof_is_refused(size: int) -> None:
    for index in {0, 1 % size, size // 2, size - 1}:
        for proof in ruined(inclusion_proof(index, size, complete)):
            with pytest.raises(ProofError):
                verify_inclusion(LEAVES[index], index, size, proof, mth(0, size))


@pytest.mark.parametrize("size", [2, 3, 5, 8, 13, 64, 100, 256])
def test_an_inclusion_proof_holds_for_its_leaf_index_and_root_alone(size: int) -> None:
    index, top = size // 2, mth(0, size)
    proof = inclusion_proof(index, size, complete)
    for other in {0, index - 1, index + 1, size - 1} - {index, size}:
        with pytest.raises(ProofError):
            verify_inclusion(LEAVES[index], other, size, proof, top)
        with pytest.raises(ProofError):
            verify_inclusion(LEAVES[other], index, size, proof, top)
    for wrong in (flipped(top, 0), flipped(top, 31), mth(0, size + 1)):
        with pytest.raises(ProofError, match="another root"):
            verify_inclusion(LEAVES[index], index, size, proof, wrong)


def test_an_inclusion_proof_of_another_size_is_refused() -> None:
    """Where the size changes the shape of the path; where it does not, the root tells the sizes apart."""
    for size in range(1, 65):
        for other in {size - 1, size + 1, 2 * size}:
            index = size - 1
            proof = inclusion_proof(index, size, complete)
            with pytest.raises(ProofError):
                verify_inclusion(LEAVES[index], index, other, proof, mth(0, other))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (-1, -1), (5, 3), (0, -1)])
def test_a_leaf_that_is_not_there_has_no_inclusion_proof(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="has no leaf"):
        inclusion_proof(index, size, complete)
    with pytest.raises(ProofError, match="has no leaf"):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hashes_of_another_length_are_refused_in_an_inclusion_proof(length: int) -> None:
    with pytest.raises(ProofError, match="32 bytes"):
        verify_inclusion(bytes(length), 0, 1, [], bytes(length))
    with pytest.raises(ProofError, match="32 bytes"):
        verify_inclusion(LEAVES[0], 0, 2, [bytes(length)], mth(0, 2))


# Consistency


def test_consistency_proofs_are_those_of_the_definition_and_verify() -> None:
    for new in range(1, LARGEST + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(old, new, complete)
            assert proof == subproof(old, 0, new, True)
            verify_consistency(old, new, mth(0, old), mth(0, new), proof)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 4), (4, 7), (6, 8), (7, 13), (64, 65), (100, 257)])
def test_a_ruined_consistency_proof_is_refused(old: int, new: int) -> None:
    for proof in ruined(consistency_proof(old, new, complete)):
        with pytest.raises(ProofError):
            verify_consistency(old, new, mth(0, old), mth(0, new), proof)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 4), (4, 7), (6, 8), (7, 13), (64, 65), (100, 257)])
def test_a_consistency_proof_holds_for_its_sizes_and_roots_alone(old: int, new: int) -> None:
    proof = consistency_proof(old, new, complete)
    before, after = mth(0, old), mth(0, new)
    for byte in (0, 31):
        with pytest.raises(ProofError, match="root"):
            verify_consistency(old, new, flipped(before, byte), after, proof)
        with pytest.raises(ProofError, match="another new root"):
            verify_consistency(old, new, before, flipped(after, byte), proof)
    for other in {old - 1, old + 1} - {new}:
        with pytest.raises(ProofError):
            verify_consistency(other, new, mth(0, other), after, proof)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    forged = [LEAVES[0], LEAVES[2], *LEAVES[2:]]
    # A log of 4, 8 or 16 leaves is a subtree of the new one, so its forged root leads on to a forged new one.
    for old in range(2, 20):
        proof = consistency_proof(old, 21, complete)
        with pytest.raises(ProofError, match=r"another (old|new) root"):
            verify_consistency(old, 21, root(forged[:old]), mth(0, 21), proof)


def test_equal_sizes_need_no_hashes_and_equal_roots() -> None:
    assert consistency_proof(7, 7, complete) == []
    verify_consistency(7, 7, mth(0, 7), mth(0, 7), [])
    with pytest.raises(ProofError, match="1 hashes, not 0"):
        verify_consistency(7, 7, mth(0, 7), mth(0, 7), [mth(0, 7)])
    with pytest.raises(ProofError, match="another new root"):
        verify_consistency(7, 7, mth(0, 7), mth(0, 8), [])


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (0, 8), (-1, 1), (-1, -1), (2, 1), (8, 7)])
def test_nothing_is_consistent_with_an_empty_or_longer_log(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="no consistency"):
        consistency_proof(old, new, complete)
    with pytest.raises(ProofError, match="no consistency"):
        verify_consistency(old, new, EMPTY_ROOT, EMPTY_ROOT, [])


@pytest.mark.parametrize("length", [0, 31, 33])
def test_hashes_of_another_length_are_refused_in_a_consistency_proof(length: int) -> None:
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(1, 1, bytes(length), bytes(length), [])
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(1, 2, LEAVES[0], mth(0, 2), [bytes(length)])


def test_proofs_of_a_large_log_ask_for_few_hashes() -> None:
    asked: list[tuple[int, int]] = []

    def source(level: int, index: int) -> bytes:
        asked.append((level, index))
        return bytes(32)

    inclusion_proof(123_456, 1_000_003, source)
    assert len(asked) <= 2 * 20
    asked.clear()
    consistency_proof(765_432, 1_000_003, source)
    assert len(asked) <= 3 * 20


def test_a_negative_size_has_no_root() -> None:
    with pytest.raises(ValueError, match="negative"):
        root_at(-1, complete)
