"""What the guard did, as events, and the journal that gathers them while it works."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from chat.guard.codes import CODES, Class

RULES_VERSION = 2
# Events go on record (a record's body is at most 60 kB); beyond this many, one stands for all further ones of its code.
EVENT_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Event:
    """What was done at `pointer`, an RFC 6901 pointer into the reply (syntax) or the draft (shape), "" for the whole.

    `before` and `after` are SHA-256 of the text there, or "". `start` and `end` are UTF-8 byte offsets into the raw
    reply, None where no one place can be named. `count` tells how many like it this event stands for.
    """

    code: str
    pointer: str = ""
    before: str = ""
    after: str = ""
    start: int | None = None
    end: int | None = None
    count: int = 1
    rules: int = RULES_VERSION

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


@dataclass(slots=True)
class Journal:
    """Gathers events with character offsets; where not `attributable`, they say nothing of the reply."""

    events: list[Event] = field(default_factory=list)
    attributable: bool = True
    _last: dict[str, int] = field(default_factory=dict)
    _further: Counter[str] = field(default_factory=Counter)

    def is_full(self, code: str) -> bool:
        """Whether a further event of this code would only be counted."""
        return code in self._last and len(self.events) >= EVENT_LIMIT

    def note(
        self, code: str, pointer: str = "", start: int | None = None, end: int | None = None, *,
        before: str | None = None, after: str | None = None,
    ) -> None:  # fmt: skip
        if self.is_full(code):
            self._further[code] += 1
            return
        self._last[code] = len(self.events)
        if not self.attributable:
            start = end = None
        self.events.append(Event(code, pointer, _digest(before), _digest(after), start, end))

    def absorb(self, other: "Journal") -> None:
        for event in other.events:
            if self.is_full(event.code):
                self._further[event.code] += event.count
            else:
                self._last[event.code] = len(self.events)
                self.events.append(event)
        self._further += other._further

    def has(self, code: str) -> bool:
        return code in self._last

    def clear(self) -> None:
        self.events.clear()
        self._last.clear()
        self._further.clear()

    def counted(self) -> list[Event]:
        """All events, the last of a code standing for those beyond EVENT_LIMIT."""
        events = list(self.events)
        for code, count in self._further.items():
            index = self._last[code]
            events[index] = replace(events[index], count=events[index].count + count)
        return events


def _digest(text: str | None) -> str:
    return "" if text is None else sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def in_bytes(events: Sequence[Event], raw: str) -> tuple[Event, ...]:
    """The same events with their character offsets turned into UTF-8 byte offsets, in one pass over `raw`."""
    if raw.isascii():
        return tuple(events)
    offsets = sorted({place for event in events for place in (event.start, event.end) if place is not None})
    in_utf8, done, total = {}, 0, 0
    for place in offsets:
        total += len(raw[done:place].encode("utf-8", "surrogatepass"))
        in_utf8[place] = total
        done = place
    return tuple(
        replace(event, start=in_utf8[event.start], end=in_utf8[event.end])
        if event.start is not None and event.end is not None
        else event
        for event in events
    )
