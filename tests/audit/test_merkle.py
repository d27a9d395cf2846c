"""Leaf hashes by RFC 6962, against the published values in tests/vectors/rfc6962.json."""

import hashlib
import json
from typing import Any

import pytest

from audit.merkle import leaf_hash
from tests.environment import ROOT

VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/rfc6962.json").read_text(encoding="utf-8"))
INPUTS = [bytes.fromhex(leaf) for leaf in VECTORS["leaf_inputs_hex"]]


def root(entries: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, section 2.1, over our leaves: what a verifier elsewhere would compute."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return leaf_hash(entries[0])
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + root(entries[:split]) + root(entries[split:])).digest()


def test_a_leaf_is_the_published_one() -> None:
    leaf = VECTORS["leaf"]
    assert leaf_hash(leaf["input_utf8"].encode()).hex() == leaf["hash_hex"]


def test_the_leaf_of_nothing_is_the_published_root_of_one_empty_entry() -> None:
    assert leaf_hash(b"").hex() == VECTORS["roots_hex_by_size"][1]


@pytest.mark.parametrize("size", range(len(VECTORS["roots_hex_by_size"])))
def test_trees_over_our_leaves_have_the_published_roots(size: int) -> None:
    assert root(INPUTS[:size]).hex() == VECTORS["roots_hex_by_size"][size]


def test_a_leaf_cannot_be_taken_for_a_node() -> None:
    node = VECTORS["node"]
    children = (node["left_utf8"] + node["right_utf8"]).encode()
    assert hashlib.sha256(b"\x01" + children).hexdigest() == node["hash_hex"]
    assert leaf_hash(children).hex() != node["hash_hex"]
