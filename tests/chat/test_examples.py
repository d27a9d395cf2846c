"""The 25 example questions of the domain, asked as a client asks them."""

import json
from pathlib import Path

import pytest

from chat.guard import draft_text
from tests.chat.asking import answer_of

pytestmark = pytest.mark.django_db
EXAMPLES = json.loads(Path("knowledge/packs/examples.json").read_text(encoding="utf-8"))


def test_there_are_25_of_them():
    assert len({example["question"] for example in EXAMPLES}) == 25


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
@pytest.mark.parametrize("example", EXAMPLES, ids=[example["fact"] for example in EXAMPLES])
def test_an_example_is_answered_with_its_clause_and_figure(owner, example, path):
    answer = answer_of(owner.post_json(path, {"question": example["question"]}))
    first = answer["citations"][0]
    assert example["clause"] in first["reference"] + first["quote"]
    assert example["figure"] in draft_text(answer)
    assert all(reference["known"] for reference in answer["meta"]["references"])
