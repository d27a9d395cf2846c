"""Measures answers against labelled questions: `{"answerable": [...], "unanswerable": [...]}`.

An answerable item counts as right when its answer names one of its clauses and holds one of its figures (where it has
any) and, where the answer says which notes it gives, one of its facts is among them. An unanswerable one counts when it
is declined. No answer may ever name a clause that the knowledge base does not hold.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from knowledge.references import KnownReferences, marks, references_find

KINDS = ("declined", "instead of", "without clause", "without", "names", "answered")
ANSWERABLE_TARGET, DECLINED_TARGET = 0.95, 0.98
_SPACES = re.compile(r"\s+")
_THOUSANDS = re.compile(r"(?<=\d)[ ,](?=\d{3}\b)")


@dataclass(frozen=True, slots=True)
class Answer:
    """`declined` with whatever text goes with it; `facts` are the keys of the notes given, where those are known."""

    text: str
    declined: bool
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    id: str
    question: str
    group: str
    kind: str
    why: str


@dataclass(slots=True)
class Outcome:
    counts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    """Group ("answerable/lay", "unanswerable/neighbour") -> right, all."""
    failures: list[Failure] = field(default_factory=list)
    first: int = 0
    """Answerable questions whose first note is a right one."""
    invented: int = 0
    """Answers that name a clause the knowledge base does not hold."""

    def ratio(self, kind: str) -> float:
        right = sum(count[0] for group, count in self.counts.items() if group.startswith(kind + "/"))
        total = sum(count[1] for group, count in self.counts.items() if group.startswith(kind + "/"))
        return right / total if total else 1.0

    def reasons(self) -> Counter[str]:
        """How often each kind of fault occurred, without the questions: fit to print for the held-out file."""
        return Counter(failure.kind for failure in self.failures)

    @property
    def passed(self) -> bool:
        return (
            self.ratio("answerable") >= ANSWERABLE_TARGET
            and self.ratio("unanswerable") >= DECLINED_TARGET
            and not self.invented
        )


def evaluate(
    items: dict[str, list[dict[str, Any]]], answer: Callable[[str], Answer], known: KnownReferences
) -> Outcome:
    outcome = Outcome()
    for item in items["answerable"]:
        given = answer(item["question"])
        outcome.first += not given.declined and given.facts[:1] != () and given.facts[0] in item["facts"]
        _count(outcome, item, f"answerable/{item['style']}", _fault(item, given), given, known)
    for item in items["unanswerable"]:
        given = answer(item["question"])
        fault = "" if given.declined else f"answered: {', '.join(given.facts) or given.text[:80]}"
        _count(outcome, item, f"unanswerable/{item['kind']}", fault, given, known)
    return outcome


def _count(
    outcome: Outcome, item: dict[str, Any], group: str, fault: str, given: Answer, known: KnownReferences
) -> None:
    if not given.declined and (invented := [mark["text"] for mark in marks(given.text, known) if not mark["known"]]):
        outcome.invented += 1
        fault = fault or f"names {', '.join(invented)}"
    outcome.counts[group][0] += not fault
    outcome.counts[group][1] += 1
    if fault:
        kind = next((kind for kind in KINDS if kind in fault), "other")
        outcome.failures.append(Failure(item["id"], item["question"], group, kind, fault))


def _fault(item: dict[str, Any], given: Answer) -> str:
    if given.declined:
        return "declined"
    if given.facts and not set(given.facts) & set(item["facts"]):
        return f"{', '.join(given.facts)} instead of {' or '.join(item['facts'])}"
    text = _plain(given.text)
    if item["figure"] and not any(_plain(figure) in text for figure in item["figure"]):
        return f"without {' or '.join(item['figure'])}"
    if item["clause"] and not _names_any(item["clause"], given.text):
        return f"without clause {' or '.join(item['clause'])}"
    return ""


def _names_any(clauses: Iterable[str], text: str) -> bool:
    named = {reference.key for reference in references_find(text)}
    plain = _plain(text)
    for clause in clauses:
        keys = {reference.key for reference in references_find(clause)} | {
            reference.key for reference in references_find(f"clause {clause}")
        }
        if keys & named or _plain(clause) in plain:
            return True
    return False


def _plain(text: str) -> str:
    return _THOUSANDS.sub(
        "", _SPACES.sub(" ", text.replace("\u2013", "-").replace("\u00b2", "2").replace("\u00b3", "3").lower())
    )
