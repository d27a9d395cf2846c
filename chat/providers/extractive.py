"""Answers from the knowledge base alone, word for word, without a model. It knows, or it says that it does not."""

import json
from collections.abc import Sequence
from typing import Any

from chat.guard import draft_text
from chat.providers.base import Completion, CompletionRequest, Provider, tokens_estimate
from knowledge.retrieval import Found, judge

MODEL = "extractive-1"
DEGRADED = {
    "type": "callout",
    "tone": "warning",
    "title": "The language model could not be reached",
    "text": "This answer was put together from the knowledge base alone.",
}
UNKNOWN_TITLE = "I do not know"
UNKNOWN_SUMMARY = "The knowledge base has nothing that answers this, so no answer is given."
UNKNOWN = {
    "no_match": "Nothing in the knowledge base matches the question.",
    "not_covered": "The knowledge base touches this subject, and does not tell what was asked.",
    "unknown_clause": "The question names a clause or standard that the knowledge base does not hold.",
    "not_a_question": "This does not read as a question about building compliance.",
}
UNKNOWN_HELP = (
    "Ask about one rule of the National Construction Code or of an AS/NZS standard, with the kind of building, for "
    "example: how high must a handrail be in a house? For anything else, ask a registered building surveyor or "
    "certifier."
)
# A summary and a block end up within the schema's bounds (1,200 and 20,000 characters).
SUMMARY_LIMIT = 1200
# Characters a streamed piece; there is no model whose pace it would follow.
PIECE = 256


class ExtractiveProvider(Provider):
    name = "extractive"
    model = MODEL

    def complete(self, request: CompletionRequest) -> Completion:
        verdict = judge(request.question, history=request.earlier_questions)
        draft = compose(verdict.answers) if verdict.answers else decline(verdict.reason)
        if request.degraded:
            draft["blocks"].insert(0, DEGRADED)
        text = json.dumps(draft, ensure_ascii=False) if request.schema else draft_text(draft)
        if request.sink:
            for start in range(0, len(text), PIECE):
                request.sink.text(text[start : start + PIECE])
        return Completion(
            text=text,
            provider=self.name,
            model=MODEL,
            prompt_tokens=tokens_estimate(request.question),
            completion_tokens=tokens_estimate(text),
            tokens_estimated=True,
            declined=not verdict.answers,
            passages=verdict.answers,
        )


def compose(answers: Sequence[Found]) -> dict[str, Any]:
    first = answers[0]
    blocks: list[dict[str, Any]] = []
    for n, found in enumerate(answers, 1):
        blocks.append({"type": "markdown", "text": f"{found.text} [{n}]"})
        source = {"Source": found.reference, "Edition": found.edition, "Applies in": found.jurisdiction}
        items = [f"{name}: {value}"[:2000] for name, value in source.items() if value]
        if items:
            blocks.append({"type": "list", "ordered": False, "items": items})
        if found.caution:
            blocks.append({"type": "callout", "tone": "warning", "title": "Check this", "text": found.caution[:4000]})
    return {"title": first.title[:200], "summary": first.text[:SUMMARY_LIMIT], "blocks": blocks}


def decline(reason: str) -> dict[str, Any]:
    text = UNKNOWN.get(reason, UNKNOWN["no_match"])
    return {
        "title": UNKNOWN_TITLE,
        "summary": UNKNOWN_SUMMARY,
        "blocks": [{"type": "markdown", "text": text}, {"type": "markdown", "text": UNKNOWN_HELP}],
    }
