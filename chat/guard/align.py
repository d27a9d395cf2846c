"""The tree of a reply as a draft of the agreed shape; lengths are not yet bounded (`fit` does that)."""

from dataclasses import dataclass
from typing import Any

from chat.guard.blocks import Block, blocks_of, text_of
from chat.guard.events import Journal
from chat.guard.fields import Alignment, Fields, flat, is_empty
from chat.guard.nodes import Array, Node, Record, Text, nulls
from chat.guard.shapes import BLOCK_TYPE, BLOCKS, LEGACY, ROOT_NAMES, SUMMARY, TITLE, WRAPPERS, normal

WRAP_DEPTH = 6


@dataclass(slots=True)
class Aligned:
    """`title` is "" when there is none yet; `extras` are texts for the end; `used` names and values now structure."""

    title: str
    summary: str
    blocks: list[Block]
    extras: list[str]
    used: list[str]
    nulls: list[str]
    certain: bool = True


def align(root: Node, journal: Journal) -> Aligned | None:
    """None when nothing shows that the tree is meant as an answer."""
    alignment = Alignment(journal)
    found = _aligned(root, alignment, 0)
    if found is None:
        return None
    title, summary, blocks = found
    return Aligned(
        title, summary, blocks, alignment.extras, alignment.used, [*alignment.nulls, *nulls(root)], _is_certain(root)
    )


def _names(record: Record) -> set[str]:
    return {normal(key.text) for key, _ in record.members}


def _is_certain(root: Node) -> bool:
    """Whether this can hardly be anything but an answer: wanted of a tree that stands amid other text."""
    if isinstance(root, Record):
        names = _names(root)
        if "blocks" in names or len(names & {"title", "summary", "text"}) > 1 or names & LEGACY:
            return True
        return any(_is_certain(value) for key, value in root.members if normal(key.text) in _WRAPPERS)
    if isinstance(root, Array):
        return bool(root.items) and all(isinstance(item, Record) and _is_typed(item) for item in root.items)
    return False


_WRAPPERS = frozenset(normal(name) for name in WRAPPERS)


def _is_typed(record: Record) -> bool:
    return any(
        normal(key.text) == "type" and isinstance(value, Text) and normal(value.text) in BLOCK_TYPE
        for key, value in record.members
    )


def _aligned(root: Node, alignment: Alignment, depth: int) -> tuple[str, str, list[Block]] | None:
    root = alignment.unpacked(root, "")
    if depth > WRAP_DEPTH:
        return None
    if isinstance(root, Array):
        return _from_array(root, alignment, depth)
    if not isinstance(root, Record):
        return None
    names = _names(root)
    if names & LEGACY or (names == {"text", "meta"}) or names == {"text"}:
        return _from_legacy(root, alignment)
    if _is_typed(root) and "blocks" not in names:
        alignment.note("WRAPPED", "", root)
        return "", "", blocks_of(Array(root.start, root.end, [root]), alignment)
    if not names & ROOT_NAMES:
        wrapped = _from_wrapper(root, alignment, depth)
        if wrapped is not None:
            return wrapped
    if names & (ROOT_NAMES | {"sections", "content"}):
        return _from_record(root, alignment)
    return None


def _from_array(root: Array, alignment: Alignment, depth: int) -> tuple[str, str, list[Block]] | None:
    if len(root.items) == 1 and isinstance(root.items[0], Record) and not _is_typed(root.items[0]):
        alignment.note("WRAPPED", "", root)
        return _aligned(root.items[0], alignment, depth + 1)
    if not root.items or not any(isinstance(item, Record) and _is_typed(item) for item in root.items):
        return None
    lone = root.items[0]
    if len(root.items) == 1 and isinstance(lone, Record):
        inner = next((value for key, value in lone.members if key.text == "text" and isinstance(value, Text)), None)
        unpacked = alignment.unpacked(inner, "") if inner is not None else None
        if unpacked is not None and unpacked is not inner:
            alignment.used += [
                text for key, value in lone.members if value is not inner for text in (key.text, flat(value))
            ]
            return _aligned(unpacked, alignment, depth + 1)
    alignment.note("WRAPPED", "", root)
    return "", "", blocks_of(root, alignment)


# Layers whose bare text is the answer itself.
_TEXT_WRAPPERS = frozenset(
    normal(name) for name in ("answer", "response", "result", "output", "reply", "message", "content", "final_answer")
)


def _from_wrapper(root: Record, alignment: Alignment, depth: int) -> tuple[str, str, list[Block]] | None:
    for index, (key, value) in enumerate(root.members):
        if normal(key.text) not in _WRAPPERS:
            continue
        trial = Alignment(Journal(attributable=alignment.journal.attributable), embedded=alignment.embedded)
        found = _aligned(value, trial, depth + 1)
        if found is not None:
            alignment.journal.absorb(trial.journal)
            alignment.used += trial.used
            alignment.nulls += trial.nulls
            alignment.extras += trial.extras
            alignment.embedded = trial.embedded
            return _beside(root, index, found, alignment)
    for index, (key, value) in enumerate(root.members):
        if normal(key.text) in _TEXT_WRAPPERS and isinstance(value, Text) and value.text.strip():
            return _beside(root, index, ("", "", [{"type": "markdown", "text": value.text}]), alignment)
    return None


def _beside(
    root: Record, index: int, found: tuple[str, str, list[Block]], alignment: Alignment
) -> tuple[str, str, list[Block]]:
    """`found` was in member `index`; the others are shown at the end."""
    alignment.note("WRAPPED", "", root.members[index][0])
    alignment.used.append(root.members[index][0].text)
    for other, (name, rest) in enumerate(root.members):
        if other != index:
            alignment.set_apart(name.text, rest, "", name)
    return found


def _from_legacy(root: Record, alignment: Alignment) -> tuple[str, str, list[Block]]:
    """The previous product's {text, emoji_map, mentoring_insight, meta}: all of it stays visible."""
    alignment.note("LEGACY_TEXT", "", root)
    fields = Fields(root, "", alignment)
    title, summary = fields.take(("title",)), fields.take(("summary",))
    blocks = blocks_of(found, alignment) if (found := fields.take(("blocks",))) is not None else []
    node = fields.take(("text",))
    if not is_empty(node):
        blocks.append({"type": "markdown", "text": text_of(node, "/blocks/0/text", alignment)})
    insight = fields.take(("mentoring_insight",))
    if insight is not None and flat(insight).strip():
        blocks.append(_insight(insight))
    fields.rest()
    return flat(title) if title else "", flat(summary) if summary else "", blocks


def _insight(node: Node) -> Block:
    heading = None
    text = flat(node)
    if isinstance(node, Record):
        heading = next((flat(value) for key, value in node.members if normal(key.text) == "title"), None) or None
        text = "\n".join(
            flat(value) if normal(key.text) in ("text", "content") else f"{key.text}: {flat(value)}"
            for key, value in node.members
            if not (heading and normal(key.text) == "title")
        )
    return {"type": "callout", "tone": "info", "title": heading, "text": text}


def _from_record(root: Record, alignment: Alignment) -> tuple[str, str, list[Block]]:
    fields = Fields(root, "", alignment)
    title_node, summary_node = fields.take(TITLE), fields.take(SUMMARY)
    if summary_node is None:
        alignment.journal.note("SUMMARY_DERIVED", "/summary")
    blocks_node = fields.take(BLOCKS)
    blocks = blocks_of(blocks_node, alignment) if blocks_node is not None else []
    text = fields.take(("text", "answer", "markdown"))
    if text is not None:
        blocks += blocks_of(text, alignment)
    fields.rest()
    title = "" if is_empty(title_node) else text_of(title_node, "/title", alignment, " ")
    summary = "" if is_empty(summary_node) else text_of(summary_node, "/summary", alignment, "\n")
    return title, summary, blocks


def as_draft(found: Aligned) -> dict[str, Any]:
    return {"title": found.title, "summary": found.summary, "blocks": found.blocks}
