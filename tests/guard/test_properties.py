"""What holds for every text and every answer, by hypothesis. The oracle of validity is jsonschema."""

import json
import time
from itertools import accumulate, cycle, islice, pairwise

import jsonschema
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chat.guard import CODES, Class, Scanner, guard
from chat.guard.bounds import RAW_LIMIT_BYTES
from chat.guard.conserve import _WORD, added, spelled
from chat.guard.draft import leaves
from chat.guard.events import Journal
from chat.guard.fallback import EMPTY_TEXT, EMPTY_TITLE, ENDED_TEXT, REFUSAL_TITLE
from chat.guard.safe import draft_safe
from chat.guard.schema import DRAFT
from chat.guard.strict import strict_parse
from tests.guard.answers import DRAFTS, GOOD, JSON, PROFILE, dumps

ORACLE = jsonschema.Draft202012Validator(DRAFT)
CONSTANTS = (EMPTY_TITLE, EMPTY_TEXT, ENDED_TEXT, REFUSAL_TITLE)
STOP = st.sampled_from(["stop", "length", "refusal", "content_filter"])
SYNTAX = st.text(st.sampled_from("{}[]\":,\\'n\n tfu0`“”abtitle<>/#*|-"), max_size=200)
ANY_TEXT = st.one_of(st.text(max_size=300), SYNTAX, JSON.map(dumps), st.text(st.characters(), max_size=100))


def is_valid(draft):
    return ORACLE.is_valid(draft)


def edited(text, edits):
    for place, cut, put in edits:
        at = place % (len(text) + 1)
        text = text[:at] + put + text[at + cut :]
    return text


EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 12), st.text("{}[]\":,\\'n \n“”`tab", max_size=3)), max_size=4
)
SIZES = st.lists(st.integers(1, 9) | st.integers(1, 400), min_size=1, max_size=20)
DAMAGED = st.builds(edited, st.one_of(st.sampled_from(GOOD), DRAFTS).map(dumps), EDITS)


@PROFILE
@given(raw=st.one_of(ANY_TEXT, DAMAGED), stop_reason=STOP)
@example(raw="\ud800", stop_reason="stop")
@example(raw='{"title":"\\ud800"', stop_reason="length")
def test_any_text_gives_a_valid_answer_and_no_exception(raw, stop_reason):
    guarded = guard(raw, stop_reason=stop_reason)
    assert is_valid(guarded.draft)
    dumps(guarded.draft).encode("utf-8")
    assert all(event.code in CODES for event in guarded.events)


@PROFILE
@given(draft=DRAFTS)
def test_a_valid_answer_comes_out_identical_and_without_codes(draft):
    assume(draft_safe(draft, Journal(), restore=True) is draft)
    guarded = guard(dumps(draft))
    assert guarded.draft == draft
    assert guarded.events == ()
    assert guarded.outcome == "valid"


@PROFILE
@given(raw=st.one_of(ANY_TEXT, DAMAGED), stop_reason=STOP)
def test_the_guard_is_idempotent(raw, stop_reason):
    first = guard(raw, stop_reason=stop_reason)
    again = guard(dumps(first.draft))
    assert again.codes == []
    assert again.draft == first.draft


@PROFILE
@given(raw=st.one_of(ANY_TEXT, DAMAGED))
def test_output_differs_from_the_strict_parse_exactly_when_there_are_codes(raw):
    guarded = guard(raw)
    assert (guarded.draft == strict_parse(raw)) == (guarded.codes == [])


@PROFILE
@given(raw=st.one_of(ANY_TEXT, DAMAGED), stop_reason=STOP)
@example(raw="0\f0", stop_reason="stop")
def test_every_word_of_the_output_comes_from_the_reply_or_a_constant(raw, stop_reason):
    sound = raw.encode("utf-8", "replace").decode("utf-8")
    shown = list(leaves(guard(raw, stop_reason=stop_reason).draft))
    assert not added(sound, shown, CONSTANTS, 3)


def fed(raw, sizes):
    """What a scanner gives for `raw` in chunks of these sizes, over and over."""
    scanner = Scanner()
    ends = [end for end in accumulate(islice(cycle(sizes), len(raw))) if end < len(raw)]
    return [pair for start, end in pairwise([0, *ends, len(raw)]) for pair in scanner.feed(raw[start:end])]


SAYS_SO = {code.name for code in CODES.values() if code.cls in (Class.LOSS, Class.FALLBACK)}


@PROFILE
@given(draft=st.one_of(DRAFTS, st.sampled_from(GOOD)), edits=EDITS)
def test_every_leaf_of_a_damaged_answer_survives_or_a_code_says_so(draft, edits):
    """Leaves that the edits left alone: those whose JSON spelling still stands in the text, quotes included."""
    raw = edited(dumps(draft), edits)
    guarded = guard(raw)
    shown = " ".join(word for leaf in leaves(guarded.draft) for word in _WORD.findall(leaf))
    for leaf in leaves(draft):
        if _WORD.search(leaf) and dumps(leaf) in raw and " ".join(_WORD.findall(leaf)) not in shown:
            assert set(guarded.codes) & SAYS_SO, (leaf, guarded)


@PROFILE
@given(draft=st.one_of(DRAFTS, st.sampled_from(GOOD)), sizes=SIZES)
def test_any_chunking_of_a_stream_gives_the_same_blocks(draft, sizes):
    raw = dumps(draft)
    found = fed(raw, sizes)
    whole = Scanner().feed(raw)
    assert found == whole
    assert [block for _, block in whole] == guard(raw).draft["blocks"]
    assert [index for index, _ in whole] == list(range(len(whole)))


@PROFILE
@given(raw=st.one_of(DAMAGED, ANY_TEXT), sizes=SIZES)
def test_any_chunking_of_any_text_gives_the_same_blocks(raw, sizes):
    assert fed(raw, sizes) == Scanner().feed(raw)


@PROFILE
@given(raw=st.one_of(DAMAGED, JSON.map(dumps)), place=st.integers(0, 4000), stop_reason=STOP)
def test_blocks_of_a_prefix_are_a_prefix_and_the_final_answer_starts_with_them(raw, place, stop_reason):
    scanner = Scanner()
    early = [block for _, block in scanner.feed(raw[:place])]
    scanner.feed(raw[place:])
    assert scanner.emitted[: len(early)] == early
    guarded = guard(raw, stop_reason=stop_reason, emitted=scanner.emitted)
    assert is_valid(guarded.draft)
    assert guarded.draft["blocks"][: len(scanner.emitted)] == scanner.emitted


@PROFILE
@given(draft=DRAFTS, place=st.integers(0, 3000))
def test_a_truncated_answer_keeps_what_arrived(draft, place):
    raw = dumps(draft)[: place % 2000]
    assume(raw.strip())
    guarded = guard(raw, stop_reason="length")
    assert "TRUNCATED" in guarded.codes
    cut_words = spelled(raw).split()[:-1]
    shown = "\n".join(leaves(guarded.draft))
    for leaf in leaves(draft):
        if dumps(leaf) in raw and _WORD.search(leaf):
            assert set(_WORD.findall(leaf)) <= set(_WORD.findall(shown)), (leaf, cut_words)


def seconds(raw):
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        guard(raw)
        best = min(best, time.process_time() - start)
    return best


UNITS = [
    "[",
    "{[",
    '"',
    "\\",
    '\\"',
    '{"a":',
    '[{"',
    '"},',
    '{"title":"\\"',
    ' "',
    "'",
    '","',
    "/*",
    "a ",
    "\n",
    "<a",
    "[a](",
    "data: x\n\n",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("head", ["", '{"title":"', '{"blocks":["'])
def test_time_grows_no_faster_than_the_text(unit, head):
    size = 60_000 // len(unit)
    once, twice = seconds(head + unit * size), seconds(head + unit * 2 * size)
    assert twice < 2.5 * once + 0.01


@pytest.mark.parametrize("unit", ["[", "{[", '"', "\\", '{["\\'])
def test_a_megabyte_costs_little_more_than_what_is_read_of_it(unit):
    text = (unit * (1 << 20))[: 1 << 20]
    assert seconds(text) < 2.5 * seconds(text[:RAW_LIMIT_BYTES]) + 0.01


def test_json_of_a_good_answer_in_any_layout_is_valid():
    for draft in GOOD:
        for layout in (json.dumps(draft), json.dumps(draft, indent=2), json.dumps(draft, separators=(",", ":"))):
            assert guard(layout).draft == draft
            assert guard(layout).events == ()
