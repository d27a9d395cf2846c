"""From the text inside the envelope to a draft: finds the answer's root, parses, aligns, and looks for a second one."""

from dataclasses import dataclass, field
from typing import Any

from chat.guard.align import Aligned, align, as_draft
from chat.guard.envelope import CHATTER_LIMIT, Envelope, headless, outside, roots
from chat.guard.events import Journal
from chat.guard.tolerant import parse
from chat.guard.values import Parsed

ANSWERS_LIMIT = 4


@dataclass(slots=True)
class Answer:
    """`accounted` are texts whose words need not be shown: structure, and what was left out with a code.

    `levels` is how many times the reply's texts were encoded.
    """

    draft: dict[str, Any]
    extras: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    accounted: list[str] = field(default_factory=list)
    levels: int = 1


def answer_read(envelope: Envelope, journal: Journal) -> Answer | None:
    """None when nothing in the text is meant as an answer."""
    text, start = envelope.text, envelope.start
    first = _first(text, start, journal)
    if first is None:
        return None
    place, parsed, aligned = first
    answer = Answer(as_draft(aligned))
    _take(answer, parsed, aligned)
    if parsed.cut and not journal.has("TRUNCATED"):
        journal.note("TRUNCATED", "", parsed.end, len(text))
    _set_aside(answer, text, start, place, "PREFIX", journal)
    end = _others(answer, text, parsed.end, journal)
    _set_aside(answer, text, end, len(text), "SUFFIX", journal)
    if journal.has("DUP_KEY") and journal.has("UNESCAPED_QUOTE"):
        # Where quotes are in doubt, a name that comes twice may be words of a text.
        journal.note("AMBIGUOUS", "", parsed.root.start, parsed.end)
    answer.levels = 1 + sum(event.code == "DOUBLE_ENCODED" for event in journal.events[:8])
    return answer


def _first(text: str, start: int, journal: Journal) -> tuple[int, Parsed, Aligned] | None:
    bare = headless(text, start)
    if bare is not None:
        found = _read(text, bare, journal, implied=True)
        return (bare, *found) if found else None
    for place in roots(text, start):
        found = _read(text, place, journal)
        if found is None:
            continue
        parsed, aligned = found
        around = len(text[start:place].strip()) + len(text[parsed.end :].strip())
        if aligned.certain or around <= min(CHATTER_LIMIT, parsed.end - place):
            return place, parsed, aligned
        journal.clear()
    return None


def _read(text: str, place: int, journal: Journal, *, implied: bool = False) -> tuple[Parsed, Aligned] | None:
    trial = Journal(attributable=journal.attributable)
    parsed = parse(text, place, trial, implied=implied)
    aligned = align(parsed.root, trial) if parsed is not None else None
    if parsed is None or aligned is None:
        return None
    journal.absorb(trial)
    return parsed, aligned


def _take(answer: Answer, parsed: Parsed, aligned: Aligned) -> None:
    answer.extras += aligned.extras
    answer.strays += parsed.strays
    answer.accounted += [*aligned.used, *aligned.nulls, *parsed.dropped]


def _set_aside(answer: Answer, text: str, start: int, end: int, code: str, journal: Journal) -> None:
    shown, left_out = outside(text, start, end, code, journal)
    if shown:
        answer.outside.append(shown)
    answer.accounted.append(left_out)


def _others(answer: Answer, text: str, end: int, journal: Journal) -> int:
    """Further answers in the text: the same again goes, another one is shown behind the first."""
    for _ in range(ANSWERS_LIMIT):
        place = next(iter(roots(text, end)), None)
        if place is None:
            break
        trial = Journal(attributable=journal.attributable)
        found = _read(text, place, trial)
        if found is None or not found[1].certain:
            break
        parsed, aligned = found
        _set_aside(answer, text, end, place, "PREFIX", journal)
        draft = as_draft(aligned)
        if draft == answer.draft:
            journal.note("REPEATED", "", place, parsed.end, before=text[place : parsed.end], after="")
            answer.accounted.append(text[place : parsed.end])
        else:
            journal.absorb(trial)
            journal.note("SECOND_ANSWER", "", place, parsed.end)
            headed = [{"type": "markdown", "text": part} for part in (draft["title"], draft["summary"]) if part.strip()]
            answer.draft["blocks"] = [*answer.draft["blocks"], *headed, *draft["blocks"]]
            _take(answer, parsed, aligned)
        end = parsed.end
    return end
