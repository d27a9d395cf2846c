"""The example questions of the domain: each answered by the right note, with its clause and figure."""

import json

import pytest

from knowledge.pack import STARTER
from knowledge.retrieval import judge

EXAMPLES = json.loads((STARTER.parent / "examples.json").read_text("utf-8"))
pytestmark = pytest.mark.django_db


def test_there_are_twenty_five_of_different_notes():
    assert len(EXAMPLES) == 25
    assert len({example["fact"] for example in EXAMPLES}) == 25


@pytest.mark.parametrize("example", EXAMPLES, ids=[example["fact"] for example in EXAMPLES])
def test_clause_and_figure(example):
    verdict = judge(example["question"])

    assert verdict.reason == "answered"
    first = verdict.answers[0]
    assert first.key == example["fact"]
    assert example["clause"] in f"{first.reference} {first.text}"
    assert example["figure"] in first.text
