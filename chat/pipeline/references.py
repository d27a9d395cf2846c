import re
from collections.abc import Sequence
from typing import Any

from knowledge.retrieval import Found

MARK = re.compile(r"\[([0-9]{1,2})\]")
CITATION_LIMIT = 32
REFERENCE_LIMIT = 256


def citations_resolve(text: str, passages: Sequence[Found]) -> list[dict[str, Any]]:
    """The passages that the text's [n] marks point to. A mark without a passage cites nothing."""
    used = sorted({int(n) for n in MARK.findall(text)} & set(range(1, len(passages) + 1)))
    return [_citation(n, passages[n - 1]) for n in used[:CITATION_LIMIT]]


def _citation(n: int, found: Found) -> dict[str, Any]:
    return {
        "n": n,
        "reference": (found.reference or found.heading or found.title)[:1000],
        "title": found.title[:500],
        "edition": found.edition[:200],
        "jurisdiction": found.jurisdiction[:200],
        "quote": found.text[:4000],
    }
