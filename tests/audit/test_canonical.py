"""Canonical JSON: one text for one value, the same in every language that reads it."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.canonical import BODY_LIMIT, NotCanonical, canonical_json

texts = st.text(st.characters(exclude_categories=["Cs"]))
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
bodies = st.dictionaries(texts, values)


@given(bodies)
def test_a_body_reads_back_as_what_it_was(body: dict[str, Any]) -> None:
    assert json.loads(canonical_json(body)) == body


@given(bodies)
def test_writing_again_what_was_read_gives_the_same_bytes(body: dict[str, Any]) -> None:
    written = canonical_json(body)
    assert canonical_json(json.loads(written)) == written


@given(st.lists(st.tuples(texts, values), unique_by=lambda pair: pair[0]), st.randoms())
def test_the_order_in_which_keys_were_put_in_does_not_matter(pairs: list[tuple[str, Any]], random: Any) -> None:
    shuffled = random.sample(pairs, len(pairs))
    assert canonical_json(dict(shuffled)) == canonical_json(dict(pairs))


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ({}, "{}"),
        ({"b": 1, "a": 2, "A": 3}, '{"A":3,"a":2,"b":1}'),
        ({"a": {"z": None, "y": [True, False]}}, '{"a":{"y":[true,false],"z":null}}'),
        ({"a": (1, 2)}, '{"a":[1,2]}'),
        ({"a": "Gr\u00f6\u00dfe \u2028 \U0001f3d7"}, '{"a":"Gr\u00f6\u00dfe \u2028 \U0001f3d7"}'),
        ({"a": 'quote " and \\ and \n and \x00'}, '{"a":"quote \\" and \\\\ and \\n and \\u0000"}'),
        ({"a": -0, "b": 10**30}, '{"a":0,"b":1000000000000000000000000000000}'),
        ({"a": "e\u0301"}, '{"a":"e\u0301"}'),
    ],
)
def test_the_form_is_sorted_without_white_space_and_in_utf_8(body: dict[str, Any], written: str) -> None:
    assert canonical_json(body) == written.encode("utf-8")


@pytest.mark.parametrize(
    "value",
    [0.5, 1.0, -0.0, math.nan, math.inf, -math.inf, Decimal(1), b"bytes", {1, 2}, frozenset(), object(), 1j, range(3)],
)
@pytest.mark.parametrize("place", [lambda v: {"a": v}, lambda v: {"a": [v]}, lambda v: {"a": {"b": (1, [v])}}])
def test_what_has_no_canonical_form_is_refused_however_deep(value: Any, place: Any) -> None:
    with pytest.raises(NotCanonical, match=type(value).__name__):
        canonical_json(place(value))


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), b"a"])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(NotCanonical, match="not a string"):
        canonical_json({"a": [{key: 1}]})


@given(st.characters(categories=["Cs"]), st.booleans())
def test_an_unpaired_surrogate_is_refused_as_key_and_as_value(surrogate: str, as_key: bool) -> None:
    body = {f"x{surrogate}y": 1} if as_key else {"x": surrogate}
    with pytest.raises(NotCanonical, match="surrogate"):
        canonical_json(body)


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    room = BODY_LIMIT - len(canonical_json({"a": ""}))
    assert len(canonical_json({"a": "x" * room})) == BODY_LIMIT == 60_000
    with pytest.raises(NotCanonical, match="60001 bytes; the limit is 60000"):
        canonical_json({"a": "x" * (room + 1)})


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(NotCanonical, match="limit"):
        canonical_json({"a": "\u00e9" * 30_000})
