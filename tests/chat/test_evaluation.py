"""The evaluation questions through the whole turn: retrieval, provider, guard, references, record."""

import json
from pathlib import Path

import pytest

from chat.guard import draft_text
from chat.providers.extractive import UNKNOWN_TITLE
from knowledge.evaluation import Answer, evaluate
from knowledge.index import snapshot_current
from tests.chat.asking import answer_of

pytestmark = pytest.mark.django_db
ITEMS = json.loads(Path("tests/knowledge/evaluation.json").read_text(encoding="utf-8"))


def test_the_evaluation_is_as_large_as_promised():
    assert len(ITEMS["answerable"]) >= 150
    assert len(ITEMS["unanswerable"]) >= 60


def test_lay_and_expert_questions_are_answered_and_others_declined(owner, flag):
    flag("RATE_LIMIT_PER_USER", 10_000)

    def ask(question: str) -> Answer:
        answer = answer_of(owner.post_json("/chat", {"question": question}))
        sources = "\n".join(f"{citation['reference']}\n{citation['quote']}" for citation in answer["citations"])
        return Answer(f"{draft_text(answer)}\n{sources}", declined=answer["title"] == UNKNOWN_TITLE)

    outcome = evaluate(ITEMS, ask, snapshot_current().references)
    assert outcome.ratio("answerable") >= 0.95, outcome.failures
    assert outcome.ratio("unanswerable") >= 0.98, outcome.failures
    assert outcome.invented == 0, outcome.failures
