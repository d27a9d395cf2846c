"""Turns whatever a model replied into a valid draft, and says by code what it did.

Pure: no Django, no clock, no network. A strict parse that validates is passed on unchanged; anything else is shown
word for word as Markdown. Nothing is guessed, filled in or dropped without a code.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from chat.guard.codes import CODES, Class
from chat.guard.schema import draft_fault

RAW_LIMIT_BYTES = 256 * 1024
DEPTH_LIMIT = 24
TEXT_LIMIT = 20_000
TITLE_LIMIT = 200
SUMMARY_CONSTANT = ""
EMPTY_TITLE = "No answer"
EMPTY_TEXT = "The model replied with nothing. Please ask again, or ask in other words."
REFUSAL_TITLE = "The model declined to answer"
RULES_VERSION = 1


@dataclass(frozen=True, slots=True)
class Event:
    """What was done to the text at `pointer`; `before` and `after` are SHA-256 of the text there, or ""."""

    code: str
    pointer: str = ""
    before: str = ""
    after: str = ""

    @property
    def sentence(self) -> str:
        return CODES[self.code].sentence


@dataclass(frozen=True, slots=True)
class Guarded:
    """`draft` is {title, summary, blocks}, always valid."""

    draft: dict[str, Any]
    events: tuple[Event, ...]

    @property
    def outcome(self) -> str:
        """valid, repaired, or fallback; a refusal is an outcome of its own, because it repairs nothing."""
        codes = {event.code for event in self.events}
        if not codes:
            return "valid"
        if codes == {"REFUSAL"}:
            return "refusal"
        return "fallback" if any(CODES[code].cls is Class.FALLBACK for code in codes) else "repaired"

    @property
    def repaired(self) -> bool:
        return self.outcome in ("repaired", "fallback")

    @property
    def codes(self) -> list[str]:
        return sorted({event.code for event in self.events})


class _Malformed(ValueError):
    pass


def guard(raw: str, *, stop_reason: str = "stop") -> Guarded:
    """`stop_reason` is the provider's: stop, length, refusal or content_filter."""
    events: list[Event] = []
    text = _sound(raw, events)
    if stop_reason in ("refusal", "content_filter"):
        return Guarded(_wrapped(text or EMPTY_TEXT, REFUSAL_TITLE), (*events, Event("REFUSAL")))
    if not text.strip():
        return Guarded(_wrapped(EMPTY_TEXT, EMPTY_TITLE), (*events, Event("EMPTY")))
    if stop_reason == "length":
        events.append(Event("TRUNCATED"))
    draft = None if any(event.code == "OVERSIZE" for event in events) else strict_parse(text)
    if draft is not None:
        return Guarded(draft, tuple(events))
    return _fallback(text, events)


def plain(raw: str, *, stop_reason: str = "stop") -> Guarded:
    """For a pipeline that asks for plain text: wrapping it is what was agreed, and so no repair."""
    guarded = guard(raw, stop_reason=stop_reason)
    agreed = {"RAW_FALLBACK", "TITLE_DERIVED"}
    return Guarded(guarded.draft, tuple(event for event in guarded.events if event.code not in agreed))


def strict_parse(text: str) -> dict[str, Any] | None:
    """The draft when `text` is exactly one valid JSON draft; None otherwise."""
    if not text.lstrip().startswith("{") or _too_deep(text):
        return None
    try:
        draft = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if draft_fault(draft) is not None:
            return None
        json.dumps(draft, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        # UnicodeEncodeError is a ValueError: "\\ud800" is JSON and no text.
        return None
    assert isinstance(draft, dict)
    return draft


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Malformed("duplicate key")
    return found


def _no_constant(name: str) -> Any:
    raise _Malformed(name)


def _too_deep(text: str) -> bool:
    """Brackets inside strings count as well: a bound before any recursion need not be exact, only linear."""
    depth = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            if depth > DEPTH_LIMIT:
                return True
        elif character in "]}":
            depth -= 1
    return False


def _sound(raw: str, events: list[Event]) -> str:
    """Bounded and free of unpaired surrogates, which no encoding can carry to the client."""
    encoded = raw.encode("utf-8", "surrogatepass")
    if len(encoded) > RAW_LIMIT_BYTES:
        kept = encoded[:RAW_LIMIT_BYTES].decode("utf-8", "ignore")
        events.append(Event("OVERSIZE", before=_digest(raw), after=_digest(kept)))
        raw = kept
    sound = raw.encode("utf-8", "replace").decode("utf-8")
    if sound != raw:
        events.append(Event("SURROGATE", before=_digest(raw), after=_digest(sound)))
    return sound


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _fallback(text: str, events: list[Event]) -> Guarded:
    title = next(line for line in text.splitlines() if line.strip()).strip().lstrip("#").strip()[:TITLE_LIMIT].rstrip()
    draft = _wrapped(text, title or EMPTY_TITLE)
    events += [
        Event("RAW_FALLBACK", before=_digest(text)),
        Event("TITLE_DERIVED", "/title", after=_digest(draft["title"])),
    ]
    return Guarded(draft, tuple(events))


def _wrapped(text: str, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "summary": SUMMARY_CONSTANT,
        "blocks": [{"type": "markdown", "text": part} for part in _split(text)],
    }


def _split(text: str) -> list[str]:
    """Parts of at most TEXT_LIMIT characters that join to the text again, cut after a line's end where there is one."""
    parts = []
    while len(text) > TEXT_LIMIT:
        cut = text.rfind("\n", 0, TEXT_LIMIT) + 1 or TEXT_LIMIT
        parts.append(text[:cut])
        text = text[cut:]
    return [*parts, text]


def draft_text(draft: dict[str, Any]) -> str:
    """A draft or an answer as plain text: for the model's history, a terminal, and a commitment to what was said."""
    parts = [draft["title"], draft["summary"]]
    parts += [_block_text(block) for block in draft["blocks"]]
    return "\n\n".join(part for part in parts if part)


def _block_text(block: dict[str, Any]) -> str:
    kind = block["type"]
    if kind == "list":
        marks = (f"{n}." if block["ordered"] else "-" for n in range(1, len(block["items"]) + 1))
        return "\n".join(f"{mark} {item}" for mark, item in zip(marks, block["items"], strict=True))
    if kind == "table":
        rows = [block["columns"], *block["rows"]]
        lines = [" | ".join(row) for row in rows]
        return "\n".join([block["caption"], *lines] if block["caption"] else lines)
    if kind == "callout" and block["title"]:
        return f"{block['title']}: {block['text']}"
    return str(block["text"])
