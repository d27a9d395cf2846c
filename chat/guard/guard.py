"""Turns whatever a model replied into a valid draft, and says by code what it did.

Pure: no Django, no clock, no network. The stages, in order: envelope, bounds, strict parse, tolerant parse, align,
safety, fit, validate, conserve, fallback. A strict parse that validates is passed on unchanged; everything else carries
codes. Nothing is guessed, filled in or dropped without one.
"""

from collections.abc import Sequence
from typing import Any

from chat.guard.answer import Answer, answer_read
from chat.guard.bounds import bounded, sound
from chat.guard.conserve import added, excerpts, lost
from chat.guard.draft import draft_text, leaves
from chat.guard.envelope import Envelope, opened, unwrapped
from chat.guard.escapes import swallowed_share
from chat.guard.events import Event, Guarded, Journal, in_bytes
from chat.guard.fallback import EMPTY_TEXT, EMPTY_TITLE, ENDED_TEXT, REFUSAL_TITLE, derived_title, raw_draft, wrapped
from chat.guard.fit import BLOCK_LIMIT, fit, merged
from chat.guard.safe import draft_safe
from chat.guard.safety import may_hide, undoubted
from chat.guard.schema import block_valid, draft_valid
from chat.guard.strict import strict_parse
from chat.guard.truncation import blank_dropped, tail_cut

__all__ = ["Event", "Guarded", "draft_text", "guard", "guard_blocks", "plain"]

REFUSALS = ("refusal", "content_filter")
CONSTANTS = (EMPTY_TITLE, EMPTY_TEXT, ENDED_TEXT, REFUSAL_TITLE)
# Beyond these many lost words a reading is not worth mending: the whole reply is shown word for word.
LOST_LIMIT = 40
LOST_SHARE = 0.2


def guard(raw: str, *, stop_reason: str = "stop", emitted: Sequence[dict[str, Any]] = ()) -> Guarded:
    """`stop_reason` is the provider's: stop, length, refusal or content_filter.

    `emitted` are the blocks that a scanner of the same text has given out already: the draft starts with them.
    """
    journal = Journal()
    text = sound(bounded(raw))
    if len(text) < len(raw):
        journal.note("OVERSIZE", "", len(text), len(raw), before=raw, after=text)
    elif text != raw:
        journal.note("SURROGATE", before=raw, after=text)
    if stop_reason == "length":
        journal.note("TRUNCATED", "", len(text), len(text))
    draft = None if journal.has("OVERSIZE") else strict_parse(text)
    if draft is not None and not swallowed_share(text):
        draft = _valid(draft, text, journal)
    elif not text.strip():
        draft = _empty(journal)
    else:
        cut = tail_cut(text) if stop_reason == "length" else text
        draft = _repaired(cut, journal, refused=stop_reason in REFUSALS)
        if stop_reason == "length":
            draft = {**draft, "blocks": blank_dropped(draft["blocks"])}
    if stop_reason in REFUSALS and not journal.has("EMPTY"):
        journal.note("REFUSAL")
    if emitted and draft["blocks"][: len(emitted)] != list(emitted):
        draft = _continued(draft, list(emitted), journal)
    return Guarded(draft, in_bytes(journal.counted(), text))


def plain(raw: str, *, stop_reason: str = "stop") -> Guarded:
    """For a pipeline that asks for plain text: wrapping it is what was agreed, and so no repair."""
    guarded = guard(raw, stop_reason=stop_reason)
    agreed = {"RAW_FALLBACK", "TITLE_DERIVED"}
    if "RAW_FALLBACK" not in guarded.codes:
        return guarded
    return Guarded(guarded.draft, tuple(event for event in guarded.events if event.code not in agreed))


def guard_blocks(blocks: Sequence[dict[str, Any]], *, title: str = "") -> Guarded:
    """For a reply of which only the blocks that were sent are left: they are the draft, marked as cut off.

    `blocks` are a scanner's, each valid and safe; ValueError names the place of one that is not valid. Without a
    `title` their first words serve as one. Without blocks it is the draft of an empty reply.
    """
    journal = Journal()
    journal.note("TRUNCATED")
    if not blocks:
        return Guarded(_empty(journal), tuple(journal.counted()))
    for index, block in enumerate(blocks):
        if not block_valid(block):
            raise ValueError(f"/blocks/{index}")
    draft = draft_safe({"title": title, "summary": "", "blocks": list(blocks)}, journal, restore=False)
    if not draft["title"].strip():
        draft = {**draft, "title": derived_title(draft) or EMPTY_TITLE}
        journal.note("TITLE_DERIVED", "/title", after=draft["title"])
    return Guarded(draft if draft_valid(draft) else fit(draft, journal), tuple(journal.counted()))


def _empty(journal: Journal) -> dict[str, Any]:
    """Nothing came, of itself or because it was ended before."""
    if journal.has("TRUNCATED"):
        return wrapped(ENDED_TEXT, EMPTY_TITLE)
    journal.note("EMPTY")
    return wrapped(EMPTY_TEXT, EMPTY_TITLE)


def _valid(draft: dict[str, Any], text: str, journal: Journal) -> dict[str, Any]:
    """A draft that is valid as it came: only what cannot be shown safely is changed."""
    if undoubted(text, is_code=False) and not may_hide(text):
        return draft
    safe = draft_safe(draft, journal, restore=True)
    return safe if safe is draft or draft_valid(safe) else fit(safe, journal)


def _repaired(text: str, journal: Journal, *, refused: bool) -> dict[str, Any]:
    envelope = unwrapped(opened(text, journal), journal)
    if not envelope.text[envelope.start :].strip() or (journal.has("TRUNCATED") and envelope.text.strip() in "{["):
        # Notes or markers and no answer behind them.
        return _empty(journal)
    trial = Journal(attributable=journal.attributable)
    answer = answer_read(envelope, trial)
    draft = _finished(answer, envelope, trial) if answer is not None else None
    if draft is not None:
        journal.absorb(trial)
        return draft
    return _fallen_back(envelope, journal, refused=refused)


def _finished(answer: Answer, envelope: Envelope, journal: Journal) -> dict[str, Any] | None:
    """Safe, within bounds, valid and complete; None when it cannot be had."""
    draft = answer.draft
    if not draft["blocks"]:
        journal.note("BLOCKS_DERIVED", "/blocks")
        shown = [*answer.extras, draft["summary"] or draft["title"]]
        draft["blocks"] = wrapped("\n\n".join(part for part in shown if part.strip()), "")["blocks"]
        answer.extras = []
    draft = draft_safe(draft, journal, restore=False)
    if not draft["title"].strip():
        draft["title"] = derived_title(draft) or EMPTY_TITLE
        journal.note("TITLE_DERIVED", "/title", after=draft["title"])
    draft["blocks"] += [{"type": "markdown", "text": text} for text in _extras(answer, journal)]
    raw = envelope.text[envelope.start :]
    if not _complete(raw, draft, answer, journal):
        return None
    draft = fit(draft, journal)
    # Extras and excerpts came in late, and a cut can bare a pattern: once more over the whole.
    draft = draft_safe(draft, journal, restore=False)
    if not draft_valid(draft):
        draft = fit(draft, journal)
    return draft if draft_valid(draft) else None


def _extras(answer: Answer, journal: Journal) -> list[str]:
    stray = " ".join(answer.strays)
    if any(character.isalnum() for character in stray):
        journal.note("STRAY_TEXT", before=stray)
    else:
        stray = ""
    agreed = "\n\n".join(answer.extras)
    return [text for text in (agreed, stray, *answer.outside) if text.strip()]


def _complete(raw: str, draft: dict[str, Any], answer: Answer, journal: Journal) -> bool:
    """The ledger: lost words are put at the end as the model wrote them; too many, or added ones, and it is no use."""
    missing = lost(raw, leaves(draft), answer.accounted, answer.levels)
    if missing:
        if sum(missing.values()) > max(LOST_LIMIT, LOST_SHARE * len(raw.split())):
            return False
        kept = "\n\n".join(excerpts(raw, missing, answer.levels))
        journal.note("WORDS_KEPT", before=kept)
        draft["blocks"].append({"type": "markdown", "text": kept})
    return not added(raw, leaves(draft), CONSTANTS, answer.levels)


def _fallen_back(envelope: Envelope, journal: Journal, *, refused: bool) -> dict[str, Any]:
    text = envelope.text[envelope.start :]
    title = REFUSAL_TITLE if refused else ""
    draft = draft_safe(raw_draft(text, title), journal, restore=False)
    if not draft["title"]:
        draft["title"] = derived_title(draft) or EMPTY_TITLE
        journal.note("TITLE_DERIVED", "/title", after=draft["title"])
    if not refused:
        journal.note("RAW_FALLBACK", "", envelope.start, len(envelope.text), before=text)
    return draft if draft_valid(draft) else fit(draft, journal)


def _continued(draft: dict[str, Any], emitted: list[dict[str, Any]], journal: Journal) -> dict[str, Any]:
    """The draft behind blocks that were sent already: they stay first, and the rest follows without them."""
    journal.note("STREAM_KEPT", "/blocks")
    rest = list(draft["blocks"])
    for block in emitted:
        if block in rest:
            rest.remove(block)
    blocks = [*emitted, *rest]
    if len(blocks) > BLOCK_LIMIT:
        blocks = merged(blocks, len(emitted))
    if len(blocks) > BLOCK_LIMIT:
        journal.note("OVERSIZE", f"/blocks/{BLOCK_LIMIT}")
    return {**draft, "blocks": blocks[:BLOCK_LIMIT]}
