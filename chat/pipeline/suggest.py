"""Follow-up questions that the knowledge base can answer: the titles of notes that stand next to those used."""

from collections.abc import Sequence

from knowledge.retrieval import Found

LIMIT = 3
LABEL_LIMIT = 40


def actions_suggest(related: Sequence[Found]) -> list[dict[str, str]]:
    actions: dict[str, str] = {}
    for found in related:
        label = _short(found.title)
        if label:
            actions.setdefault(label, f"What are the rules on: {found.title}?"[:8000])
        if len(actions) == LIMIT:
            break
    return [{"label": label, "payload": payload} for label, payload in actions.items()]


def _short(title: str) -> str:
    if len(title) <= LABEL_LIMIT:
        return title
    return title[: LABEL_LIMIT - 1].rsplit(" ", 1)[0].rstrip(" ,:;-") + "\u2026"
