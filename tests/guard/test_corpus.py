"""The corpus of malformed answers through the guard, under the eye of a judge that knows nothing of it."""

from functools import cache

import pytest

from chat.guard import CODES, guard
from chat.guard.fallback import EMPTY_TEXT, EMPTY_TITLE, ENDED_TEXT, REFUSAL_TITLE
from tests.guard.corpus.answers import ANSWERS
from tests.guard.corpus.draft import valid
from tests.guard.corpus.generate import corpus, problems
from tests.guard.corpus.judge import judged

CONSTANTS = (EMPTY_TEXT, EMPTY_TITLE, ENDED_TEXT, REFUSAL_TITLE)
LEGACY = {"text", "emoji_map", "mentoring_insight", "meta"}


@cache
def verdicts():
    return [verdict(item) for item in corpus()]


def verdict(item):
    guarded = guard(item["raw"], stop_reason=item["stop_reason"])
    classes = {}
    for code in guarded.codes:
        classes.setdefault(CODES[code].cls.value, []).append(code)
    return judged(item, guarded.draft, classes, CONSTANTS)


def told(found):
    return [(verdict.item["id"], verdict.unflagged or verdict.invented or verdict.lost) for verdict in found]


def test_the_corpus_is_large_and_of_many_shapes():
    items = [verdict.item for verdict in verdicts()]
    malformed = [item for item in items if item["group"] != "unharmed"]
    assert len(malformed) >= 400
    assert len({item["shape"] for item in malformed}) >= 20
    assert len(ANSWERS) >= 20
    assert all(valid(answer) for answer in ANSWERS.values())
    assert list(problems(items)) == []


def test_the_previous_products_shape_is_in_it():
    legacy = [verdict for verdict in verdicts() if verdict.item["group"] == "legacy"]
    assert any(all(f'"{key}"' in verdict.item["raw"] for key in LEGACY) for verdict in legacy)


def test_every_answer_is_valid():
    assert told(verdict for verdict in verdicts() if not verdict.valid) == []


def test_ninety_nine_in_a_hundred_malformed_answers_are_complete():
    malformed = [verdict for verdict in verdicts() if verdict.item["group"] != "unharmed"]
    incomplete = [verdict for verdict in malformed if not (verdict.valid and verdict.complete)]
    assert len(incomplete) <= len(malformed) / 100, told(incomplete)


def test_nothing_is_lost_without_a_code_that_says_so():
    assert told(verdict for verdict in verdicts() if verdict.unflagged) == []


def test_no_word_is_invented():
    assert told(verdict for verdict in verdicts() if verdict.invented) == []


def test_unharmed_answers_come_out_as_they_are():
    unharmed = [verdict for verdict in verdicts() if verdict.item["group"] == "unharmed"]
    assert len(unharmed) == len(ANSWERS)
    assert told(verdict for verdict in unharmed if not verdict.exact) == []


@pytest.mark.parametrize("group", ["escapes", "truncation", "quotes", "tables", "combined: form + text + reply"])
def test_the_groups_that_hurt_most_are_in_it(group):
    assert sum(verdict.item["group"] == group for verdict in verdicts()) >= 20
