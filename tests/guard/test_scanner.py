"""Blocks out of a stream: early, valid, and never taken back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.guard import Scanner, guard, guard_blocks
from chat.guard.fallback import EMPTY_TITLE, ENDED_TEXT
from chat.guard.schema import draft_valid
from tests.guard.answers import DRAFTS, GOOD, PROFILE, STAIRS, dumps

FILLER = {"type": "markdown", "text": "x"}


@pytest.mark.parametrize("draft", GOOD)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("indent", [None, 2])
def test_every_block_comes_once_in_order(draft, size, indent):
    raw = json.dumps(draft, ensure_ascii=False, indent=indent)
    scanner = Scanner()
    found = [pair for start in range(0, len(raw), size) for pair in scanner.feed(raw[start : start + size])]
    assert found == list(enumerate(draft["blocks"]))
    assert scanner.emitted == draft["blocks"]


def test_a_block_comes_as_soon_as_it_is_closed():
    raw = dumps(STAIRS)
    first = raw.index('{"type": "table"')
    assert Scanner().feed(raw[:first]) == [(0, STAIRS["blocks"][0])]


@pytest.mark.parametrize(
    "raw",
    [
        f"```json\n{dumps(STAIRS)}\n```",
        dumps({**STAIRS, "meta": {}})[::-1],
        dumps({"answer": STAIRS}),
        '{"title": 1, "blocks": [{"type": "markdown", "text": "x"}]}',
        '{"title": "a", "title": "b", "blocks": [{"type": "markdown", "text": "x"}]}',
        '{"x": 1, "blocks": [{"type": "markdown", "text": "x"}]}',
        '{"blocks": [{"type": "markdown", "text": "x", "id": 1}]}',
        '{"blocks": [{"type": "markdown", "text": "a\nb"}]}',
        '{"blocks": [,{"type": "markdown", "text": "x"}]}',
        '{"blocks": [{"type": "markdown", "text": "x", "text": "y"}]}',
        '{"blocks": [[{"type": "markdown", "text": "x"}]]}',
    ],
)
def test_what_is_not_strictly_valid_gives_nothing(raw):
    assert Scanner().feed(raw) == []


def test_blocks_sent_before_a_fault_begin_the_final_answer():
    raw = dumps(STAIRS)
    broken = raw.replace('"callout"', '"callout').replace("Queensland", 'Queens"land')
    scanner = Scanner()
    sent = scanner.feed(broken)
    assert [block for _, block in sent] == STAIRS["blocks"][:2]
    assert guard(broken, emitted=scanner.emitted).draft["blocks"][:2] == STAIRS["blocks"][:2]


def test_blocks_sent_before_a_reply_falls_apart_begin_the_final_answer():
    raw = dumps(STAIRS)[:500] + '"' * 20_000
    scanner = Scanner()
    scanner.feed(raw)
    guarded = guard(raw, emitted=scanner.emitted)
    assert scanner.emitted
    assert guarded.draft["blocks"][: len(scanner.emitted)] == scanner.emitted


@pytest.mark.parametrize("count", [63, 64, 65, 200])
def test_the_bound_on_blocks_never_makes_a_retraction(count):
    raw = dumps({"title": "t", "summary": "", "blocks": [FILLER] * count})
    scanner = Scanner()
    scanner.feed(raw)
    guarded = guard(raw, emitted=scanner.emitted)
    assert len(scanner.emitted) == (count if count <= 64 else 63)
    assert guarded.draft["blocks"][: len(scanner.emitted)] == scanner.emitted
    assert len(guarded.draft["blocks"]) <= 64


def test_a_block_is_made_safe_as_the_final_one_is():
    draft = {**STAIRS, "blocks": [{"type": "markdown", "text": "a\u202eb [x](javascript:1) $\\frac$"}]}
    raw = dumps(draft).replace("\\\\frac", "\\frac")
    found = Scanner().feed(raw)
    assert [block for _, block in found] == guard(raw).draft["blocks"]
    assert found[0][1]["text"] == "ab [x] (javascript:1) $\\frac$"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x7f", "\U000e0041"])
def test_hidden_characters_are_found_in_whichever_chunk_they_come(size, hidden):
    texts = [f"a{hidden}b ē", "c", f"{hidden}d ēē", "e", f"f{hidden}"]
    raw = dumps({**STAIRS, "blocks": [{"type": "markdown", "text": text} for text in texts]})
    scanner = Scanner()
    for start in range(0, len(raw), size):
        scanner.feed(raw[start : start + size])
    assert [block["text"] for block in scanner.emitted] == ["ab ē", "c", "d ēē", "e", "f"]
    assert guard(raw).draft["blocks"] == scanner.emitted


def test_work_for_a_chunk_does_not_grow_with_the_answer():
    """By count, not by clock: what the scanner holds is no more than the block that is open."""
    scanner = Scanner()
    scanner.feed('{"title": "t", "summary": "", "blocks": [')
    held = []
    for _ in range(60):
        scanner.feed(dumps({"type": "markdown", "text": "word " * 500}) + ", ")
        held.append(sum(map(len, scanner._parts)))
    assert max(held) < 10
    assert len(scanner.emitted) == 60


@pytest.mark.parametrize("gap", [" ", "\n", "\u00a0", "\u2003", "\f"])
@pytest.mark.parametrize(
    "form",
    ['{{"title": "t",{}"blocks":{}[{}{}, {}]{}}}', '{}{{"summary": "s" , "title": "t","blocks"{}:[{}{}{}, {}]}}'],
)
def test_only_white_space_of_json_may_stand_between_parts(form, gap):
    raw = form.format(gap, gap, gap, dumps(FILLER), gap, dumps(FILLER))
    assert bool(Scanner().feed(raw)) == (gap in " \n")


def cut_off(raw, place):
    scanner = Scanner()
    scanner.feed(raw[:place])
    return scanner.emitted, guard(raw[:place], stop_reason="length", emitted=scanner.emitted)


@pytest.mark.parametrize("draft", GOOD)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_good_answer_cut_anywhere_begins_with_the_blocks_that_were_sent(draft, indent):
    raw = json.dumps(draft, ensure_ascii=False, indent=indent)
    for place in range(len(raw) + 1):
        emitted, guarded = cut_off(raw, place)
        assert guarded.draft["blocks"][: len(emitted)] == emitted
        assert "TRUNCATED" in guarded.codes
        assert "STREAM_KEPT" not in guarded.codes


@PROFILE
@given(draft=DRAFTS, share=st.floats(0, 1))
def test_any_valid_answer_cut_anywhere_begins_with_the_blocks_that_were_sent(draft, share):
    raw = dumps(draft)
    emitted, guarded = cut_off(raw, int(share * len(raw)))
    assert guarded.draft["blocks"][: len(emitted)] == emitted
    kept = guard(raw[: int(share * len(raw))], stop_reason="length").draft["blocks"][: len(emitted)] == emitted
    assert ("STREAM_KEPT" in guarded.codes) == (not kept)


@pytest.mark.parametrize("draft", GOOD)
def test_blocks_that_outlived_their_worker_are_a_draft_that_says_it_was_cut_off(draft):
    for count in range(1, len(draft["blocks"]) + 1):
        guarded = guard_blocks(draft["blocks"][:count])
        assert guarded.draft["blocks"] == draft["blocks"][:count]
        assert draft_valid(guarded.draft)
        assert guarded.codes == ["TITLE_DERIVED", "TRUNCATED"]
        assert guard(dumps(guarded.draft)).events == ()


def test_a_title_that_is_known_is_kept_and_made_to_fit():
    assert guard_blocks(STAIRS["blocks"], title="Stairs").draft["title"] == "Stairs"
    assert guard_blocks(STAIRS["blocks"], title="Stairs").codes == ["TRUNCATED"]
    assert draft_valid(guard_blocks(STAIRS["blocks"], title="Stair " * 60).draft)
    assert guard_blocks(STAIRS["blocks"], title="a\u202eb").draft["title"] == "ab"


def test_blocks_without_a_word_get_the_constant_title():
    guarded = guard_blocks([{"type": "markdown", "text": "---"}])
    assert guarded.draft["title"] == EMPTY_TITLE
    assert draft_valid(guarded.draft)


def test_no_blocks_are_an_empty_reply_that_was_cut_off():
    guarded = guard_blocks([])
    assert guarded.codes == ["TRUNCATED"]
    assert guarded.outcome == "repaired"
    assert guarded.draft == guard("", stop_reason="length").draft
    assert guarded.draft["blocks"] == [{"type": "markdown", "text": ENDED_TEXT}]


def test_more_blocks_than_accepted_are_joined():
    guarded = guard_blocks([FILLER] * 70)
    assert draft_valid(guarded.draft)
    assert "BLOCKS_MERGED" in guarded.codes


def test_a_block_that_is_not_valid_is_named():
    with pytest.raises(ValueError, match=r"^/blocks/1$"):
        guard_blocks([FILLER, {"type": "markdown"}])
