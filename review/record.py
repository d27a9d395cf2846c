"""What the record says of a turn, for a person to read; nothing is taken for granted, for it may be tampered with."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from chat.guard import CODES
from chat.recording import FACTS_REFERENCES
from flags.snapshot import COHORTS

CLASSES = {
    "N": "noise around the answer",
    "S": "syntax",
    "A": "shape",
    "D": "derived by us",
    "L": "lost or in doubt",
    "F": "fallback",
}
# Columns of a turn that its event has under the same name.
SAME = ("endpoint", "pipeline", "track", "outcome", "provider", "model", "total_us", "provider_us", "first_token_us")
TURN_COLUMNS = (
    "pk", "session_id", "seq", "references", "repair_codes", "prompt_tokens", "completion_tokens", "event_uid",
    "created_at", "question_chars", "answer_chars", "context", "history_turns", "arms", "degraded", "repaired", *SAME,
)  # fmt: skip
# What a difference is called.
COMPARED = (
    "turn_id", "session_id", "turn", "references", "repair codes", "repaired", "question length", "answer length",
    "context", "arms", "tokens", "degraded", *SAME,
)  # fmt: skip
_same_of = itemgetter(*SAME)


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that the guard did: `place` is where in the reply or the draft, `times` how often."""

    code: str
    kind: str
    sentence: str
    place: str
    times: int


def repairs(facts: dict[str, Any]) -> list[Repair]:
    return [_repair(event) for event in _dicts(_dict(facts, "guard").get("events"))]


def _repair(event: dict[str, Any]) -> Repair:
    name = str(event.get("code", ""))
    code = CODES.get(name)
    places = [str(event["pointer"])] if event.get("pointer") else []
    if isinstance(event.get("start"), int) and isinstance(event.get("end"), int):
        places.append(f"bytes {event['start']} to {event['end']} of the reply")
    count = event.get("count")
    return Repair(
        code=name,
        kind=CLASSES[code.cls.value] if code else "unknown to this release",
        sentence=code.sentence if code else "",
        place=", ".join(places),
        times=count if isinstance(count, int) else 1,
    )


def flags(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The flags as they were for the one who asked, by name."""
    return [(key, value_text(value)) for key, value in sorted(_dict(facts, "flags").items()) if key != "epoch"]


def passages(facts: dict[str, Any]) -> list[str]:
    found = facts.get("passages")
    return [str(key) for key in found] if isinstance(found, list) else []


def value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value in (None, "", [], {}) else str(value)


def differences(turn: Mapping[str, Any], facts: dict[str, Any]) -> list[str]:
    """What the turn's row (TURN_COLUMNS) says otherwise than its event: the row is a copy that anybody with the
    database can edit."""
    guard, aborted = _dict(facts, "guard"), turn["outcome"] == "aborted"
    arms = turn["arms"] or {}
    # Of a turn that was swept up the arms are those of its beginning, the flags those of its end.
    arms_then = arms if aborted or turn["arms"] is None else _named(arms, _dict(facts, "flags"))
    degraded = turn["degraded"] if aborted else turn["outcome"] == "degraded"
    shown = (
        str(turn["pk"]), str(turn["session_id"]), turn["seq"], _cited(turn["references"]),
        turn["repair_codes"], turn["repaired"], turn["question_chars"], turn["answer_chars"],
        {"outcome": turn["context"], "turns": turn["history_turns"]}, arms,
        {"prompt": turn["prompt_tokens"], "completion": turn["completion_tokens"]}, turn["degraded"],
        *_same_of(turn),
    )  # fmt: skip
    recorded = (
        facts.get("turn_id"), facts.get("session_id"), facts.get("turn"), facts.get("references"),
        sorted({str(event.get("code", "")) for event in _dicts(guard.get("events"))}),
        guard.get("outcome") in ("repaired", "fallback"),
        _dict(facts, "question").get("chars"), _dict(facts, "answer").get("chars"),
        facts.get("context"), arms_then, facts.get("tokens"), degraded,
        *map(facts.get, SAME),
    )  # fmt: skip
    # A million times the same before it differs once.
    if shown == recorded:
        return []
    return [name for name, value, then in zip(COMPARED, shown, recorded, strict=True) if value != then]


def _named(arms: Any, flags_then: dict[str, Any]) -> Any:
    if not isinstance(arms, dict):
        return None
    # Which flags had cohorts then is not known; that there was none is not so either.
    return {key: flags_then[key] for key in arms or COHORTS if key in flags_then}


def _cited(references: Any) -> Any:
    """As an event names them; what is no list of references stays as it is, and so differs."""
    if not isinstance(references, list) or not all(isinstance(mark, dict) for mark in references):
        return repr(references)
    return [f"{mark.get('text')}{'' if mark.get('known') else ' (unknown)'}" for mark in references[:FACTS_REFERENCES]]


def lines(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A body as (path, value) pairs, its members in their order."""
    if isinstance(value, dict) and value:
        members = [(f"{path}.{key}" if path else str(key), member) for key, member in value.items()]
    elif isinstance(value, list) and value:
        members = [(f"{path}[{number}]", member) for number, member in enumerate(value)]
    else:
        return [(path, value_text(value))]
    return [line for name, member in members for line in lines(member, name)]


def _dict(facts: dict[str, Any], name: str) -> dict[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
