"""A whole draft, or one block, made safe to show: each leaf on its own, so that a streamed block is the final block."""

from typing import Any

from chat.guard.draft import block_leaves, block_mapped
from chat.guard.events import Journal
from chat.guard.safety import in_doubt, literals_mended, may_hide, restored, softened, unlinked, visible

Block = dict[str, Any]
# Between leaves, for a look over all at once: no pattern reaches across it, and it is none of its own.
_JOINT = " | "


def draft_safe(draft: dict[str, Any], journal: Journal, *, restore: bool) -> dict[str, Any]:
    """The same object when there is nothing to do. `restore` puts swallowed backslashes back; without it they stay."""
    change = _change(journal, restore=restore)
    changed = {
        "title": change(draft["title"], "/title", False),
        "summary": change(draft["summary"], "/summary", False),
        "blocks": [
            block_mapped(block, f"/blocks/{n}", change) if _doubtful(_JOINT.join(block_leaves(block))) else block
            for n, block in enumerate(draft["blocks"])
        ],
    }
    return draft if changed == draft else changed


def block_safe(block: Block) -> Block:
    """One block of a strictly valid draft, as `draft_safe` makes it."""
    if not _doubtful(_JOINT.join(block_leaves(block))):
        return block
    return block_mapped(block, "", _change(Journal(), restore=True))


def _doubtful(text: str) -> bool:
    """A quick look over all leaves at once; False means that no leaf would change."""
    if "](" in text or "]:" in text or "<" in text or "\t" in text or "\r" in text:
        return True
    return may_hide(text) or restored(text) != text


def _change(journal: Journal, *, restore: bool) -> Any:
    def change(text: str, pointer: str, is_code: bool) -> str:
        meant = restored(text) if restore else softened(text)
        if meant != text:
            meant = literals_mended(meant) if restore and is_code else meant
            journal.note("CTRL_RESTORED" if restore else "CONTROL", pointer, before=text, after=meant)
            if restore and in_doubt(meant):
                journal.note("AMBIGUOUS", pointer, before=text, after=meant)
        shown, codes = visible(meant)
        for code in codes:
            journal.note(code, pointer, before=meant, after=shown)
        safe = shown if is_code else unlinked(shown)
        if safe != shown:
            journal.note("LINK_REMOVED", pointer, before=shown, after=safe)
        return safe

    return change
