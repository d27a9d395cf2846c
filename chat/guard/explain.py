"""What the guard did to a text, for a person to read."""

import difflib
import json
from typing import Any

from chat.guard.codes import CODES
from chat.guard.events import Event
from chat.guard.guard import guard
from chat.guard.strict import strict_json

# A diff of more lines costs more than it tells.
DIFF_LINES = 4000


def explain(raw: str, *, stop_reason: str = "stop") -> str:
    """Outcome, codes with their sentences and places, and a unified diff from the reply to the draft."""
    guarded = guard(raw, stop_reason=stop_reason)
    lines = [f"outcome: {guarded.outcome}"]
    lines += [_told(event) for event in guarded.events]
    before, after = _lines(raw), json.dumps(guarded.draft, ensure_ascii=False, indent=2).splitlines()
    if before != after:
        diff = difflib.unified_diff(before[:DIFF_LINES], after[:DIFF_LINES], "reply", "draft", lineterm="")
        lines += ["", *diff]
    return "\n".join(line.encode("utf-8", "replace").decode("utf-8") for line in lines) + "\n"


def _told(event: Event) -> str:
    place = f" at {event.pointer}" if event.pointer else ""
    span = f" bytes {event.start}-{event.end}" if event.start is not None else ""
    times = f" ({event.count} times)" if event.count > 1 else ""
    return f"{CODES[event.code].cls.value} {event.code}{place}{span}{times}: {event.sentence}"


def _lines(raw: str) -> list[str]:
    """JSON printed as the draft is, so that only what differs shows; any other reply's own lines."""
    value: Any
    try:
        value = strict_json(raw)
    except (ValueError, RecursionError):
        return raw.splitlines()
    return json.dumps(value, ensure_ascii=False, indent=2).splitlines()
