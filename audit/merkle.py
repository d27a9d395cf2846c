"""The Merkle log of RFC 6962, section 2.1: hashes, the right edge of a growing tree, and proofs.

Hashes are 32 bytes. Proofs are made from a `Subtree`, not from all leaves, so that tiles in a database can serve them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice

HASH_BYTES = 32
LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"
EMPTY_ROOT = sha256().digest()

# (level, index): the hash of the complete subtree over the leaves [index << level, (index + 1) << level).
Subtree = Callable[[int, int], bytes]

_CHUNK = 4096


class ProofError(ValueError):
    """A proof that cannot be made, or that does not prove what it should."""


def leaf_hash(entry: bytes) -> bytes:
    """32 bytes: SHA-256(0x00 || entry)."""
    return sha256(LEAF_PREFIX + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """32 bytes: SHA-256(0x01 || left || right)."""
    return sha256(NODE_PREFIX + left + right).digest()


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The Merkle tree hash over leaves that are hashed already."""
    frontier = Frontier()
    frontier.extend(leaf_hashes)
    return frontier.root()


class Frontier:
    """The right edge of a log: one hash for each complete subtree, the largest (leftmost) first.

    `hashes` has one entry for each set bit of `size`. Raises ValueError for hashes that do not fit the size.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._hashes = list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count():
            raise ValueError(f"{len(self._hashes)} subtrees do not make up a log of size {size}")
        _check_lengths(self._hashes)
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @property
    def hashes(self) -> list[bytes]:
        return list(self._hashes)

    def append(self, leaf: bytes) -> None:
        if len(leaf) != HASH_BYTES:
            raise ValueError("a hash must have 32 bytes")
        hashes, size = self._hashes, self._size
        while size & 1:
            leaf = sha256(NODE_PREFIX + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)
        self._size += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        leaves = iter(leaf_hashes)
        while chunk := list(islice(leaves, _CHUNK)):
            _check_lengths(chunk)
            self._take(chunk)

    def root(self) -> bytes:
        if not self._hashes:
            return EMPTY_ROOT
        right = self._hashes[-1]
        for left in self._hashes[-2::-1]:
            right = node_hash(left, right)
        return right

    def _take(self, row: list[bytes]) -> None:
        """Pairs the new hashes up level by level; the odd one out on each level becomes part of the edge."""
        edge: list[bytes] = []
        size = self._size
        self._size += len(row)
        while row:
            if size & 1:
                row.insert(0, self._hashes.pop())
            if len(row) & 1:
                edge.append(row.pop())
            pairs = iter(row)
            row = [sha256(NODE_PREFIX + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            size >>= 1
        self._hashes += reversed(edge)


def root_at(size: int, subtree: Subtree) -> bytes:
    """The root of the log when it had `size` leaves, in O(log size) calls."""
    if size < 0:
        raise ValueError("a log cannot have a negative size")
    return _span_hash(0, size, subtree) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The Merkle audit path of section 2.1.1, the sibling of the leaf first. Raises ProofError for no such leaf."""
    if not 0 <= index < size:
        raise ProofError(f"a log of size {size} has no leaf {index}")
    siblings = _siblings_of_leaf(index, size)
    return [_span_hash(start, stop, subtree) for start, stop, _ in siblings][::-1]


def consistency_proof(old_size: int, new_size: int, subtree: Subtree) -> list[bytes]:
    """The proof of section 2.1.2; empty for equal sizes. Raises ProofError unless 0 < old_size <= new_size."""
    _check_sizes(old_size, new_size)
    siblings = list(_siblings_of_prefix(old_size, new_size))
    proof = [_span_hash(start, stop, subtree) for start, stop, _ in siblings]
    if seed := _prefix_seed(old_size, siblings):
        proof.append(_span_hash(*seed, subtree))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Returns if the leaf hash is at `index` of the log of `size` leaves with this root; else raises ProofError."""
    if not 0 <= index < size:
        raise ProofError(f"a log of size {size} has no leaf {index}")
    _check_hashes(leaf, root, *proof)
    sides = [left for _, _, left in _siblings_of_leaf(index, size)][::-1]
    if len(proof) != len(sides):
        raise ProofError(f"the proof has {len(proof)} hashes, not {len(sides)}")
    for sibling, left in zip(proof, sides, strict=True):
        leaf = node_hash(sibling, leaf) if left else node_hash(leaf, sibling)
    if leaf != root:
        raise ProofError("the proof leads to another root")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Returns if the old log is a prefix of the new one; else raises ProofError.

    The old log must not be empty: of an empty one every log is a continuation, so there is nothing to prove.
    """
    _check_sizes(old_size, new_size)
    _check_hashes(old_root, new_root, *proof)
    siblings = list(_siblings_of_prefix(old_size, new_size))
    rest = list(proof)
    expected = len(siblings) + (_prefix_seed(old_size, siblings) is not None)
    if len(rest) != expected:
        raise ProofError(f"the proof has {len(rest)} hashes, not {expected}")
    # A prefix that is one complete subtree of the new tree is its own first hash.
    old = new = rest.pop(0) if expected > len(siblings) else old_root
    for sibling, (_, _, left) in zip(rest, reversed(siblings), strict=True):
        new = node_hash(sibling, new) if left else node_hash(new, sibling)
        if left:
            old = node_hash(sibling, old)
    if old != old_root:
        raise ProofError("the proof leads to another old root")
    if new != new_root:
        raise ProofError("the proof leads to another new root")


Sibling = tuple[int, int, bool]


def _siblings_of_leaf(index: int, size: int) -> Iterator[Sibling]:
    """From the root down to one leaf, the other half at each split: start, stop, and whether it is the left one."""
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            yield middle, stop, False
            stop = middle
        else:
            yield start, middle, True
            start = middle


def _siblings_of_prefix(old_size: int, new_size: int) -> Iterator[Sibling]:
    """From the root down to the subtree that ends where the old log ended, the other half at each split."""
    start, stop = 0, new_size
    while stop > old_size:
        middle = start + _split(stop - start)
        if old_size <= middle:
            yield middle, stop, False
            stop = middle
        else:
            yield start, middle, True
            start = middle


def _prefix_seed(old_size: int, siblings: list[Sibling]) -> tuple[int, int] | None:
    """The subtree that ends where the old log ended, unless it is all of the old log (whose root is known)."""
    start = max((stop for _, stop, left in siblings if left), default=0)
    return (start, old_size) if start else None


def _split(size: int) -> int:
    """The largest power of two below `size` (2 or more)."""
    return 1 << (size - 1).bit_length() - 1


def _span_hash(start: int, stop: int, subtree: Subtree) -> bytes:
    """The tree hash of [start, stop), where `start` is a multiple of the smallest power of two that spans it."""
    peaks = Frontier(stop - start, [subtree(level, first >> level) for level, first in _complete(start, stop)])
    return peaks.root()


def _complete(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        level = (stop - start).bit_length() - 1
        yield level, start
        start += 1 << level


def _check_sizes(old_size: int, new_size: int) -> None:
    if not 0 < old_size <= new_size:
        raise ProofError(f"no consistency can be proved between the sizes {old_size} and {new_size}")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError("a hash does not have 32 bytes")


def _check_lengths(hashes: list[bytes]) -> None:
    if set(map(len, hashes)) - {HASH_BYTES}:
        raise ValueError("a hash must have 32 bytes")
