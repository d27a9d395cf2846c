"""A reply cut off: its content is kept as far as it came, and nothing else is shown."""

import json
import re

import pytest

from chat.guard import Scanner, guard
from chat.guard.draft import leaves
from chat.guard.fallback import EMPTY_TITLE
from chat.guard.truncation import tail_cut
from tests.model_server import DRAFT

RAW = json.dumps(DRAFT)
# Words that only the form has.
NAMES = {"type", "ordered", "items", "caption", "columns", "rows", "blocks", "markdown", "false", "null"}


@pytest.mark.parametrize("raw", [RAW, json.dumps(DRAFT, indent=2)], ids=["compact", "indented"])
def test_cut_anywhere_no_word_of_the_form_is_shown(raw):
    content = set(re.findall(r"\w+", " ".join(leaves(DRAFT))))
    for place in range(1, len(raw)):
        scanner = Scanner()
        scanner.feed(raw[:place])
        guarded = guard(raw[:place], stop_reason="length", emitted=scanner.emitted)
        assert guarded.draft["blocks"][: len(scanner.emitted)] == scanner.emitted
        assert "TRUNCATED" in guarded.codes
        assert not {"STRAY_TEXT", "RAW_FALLBACK"} & set(guarded.codes), raw[:place]
        if guarded.draft["title"] != EMPTY_TITLE:
            words = set(re.findall(r"\w+", " ".join(leaves(guarded.draft))))
            assert not (words - content) & NAMES, raw[:place]


@pytest.mark.parametrize(
    "text",
    [
        '{"blocks": [{"type": "markdown", "text": "write {\\"t',
        '{"blocks": [{"type": "list", "items": ["one", "tw',
        '{"title": "A type", "summary": "the ty',
        "plain text, with a comma",
    ],
    ids=["a name inside a text", "an item of a list", "a text", "no JSON"],
)
def test_content_is_not_taken_for_a_name(text):
    assert tail_cut(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"blocks": [{"ty', '{"blocks": [{'),
        ('{"blocks": [{"type": "mark', '{"blocks": [{'),
        ('{"blocks": [{"type": "list", "ordered": fal', '{"blocks": [{"type": "list"'),
        ('{"blocks": [{"type": "list", "items": ', '{"blocks": [{"type": "list"'),
    ],
)
def test_half_a_name_or_kind_is_left_out(text, kept):
    assert tail_cut(text) == kept
