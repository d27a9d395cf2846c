"""A draft as plain text, its leaves, and a function over the leaves of a block."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Block: TypeAlias = dict[str, Any]


def draft_text(draft: dict[str, Any]) -> str:
    """A draft or an answer as plain text: for the model's history, a terminal, and a commitment to what was said."""
    parts = [draft["title"], draft["summary"]]
    parts += [block_text(block) for block in draft["blocks"]]
    return "\n\n".join(part for part in parts if part)


def block_text(block: Block) -> str:
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


def leaves(draft: dict[str, Any]) -> Iterator[str]:
    """All texts that a reader sees, in order."""
    yield draft["title"]
    yield draft["summary"]
    for block in draft["blocks"]:
        yield from block_leaves(block)


def block_leaves(block: Block) -> Iterator[str]:
    kind = block["type"]
    if kind == "list":
        yield from block["items"]
    elif kind == "table":
        if block["caption"]:
            yield block["caption"]
        yield from block["columns"]
        for row in block["rows"]:
            yield from row
    else:
        if kind == "callout" and block["title"]:
            yield block["title"]
        elif kind == "code":
            yield block["language"]
        yield block["text"]


Change: TypeAlias = Callable[[str, str, bool], str]


def block_mapped(block: Block, pointer: str, change: Change) -> Block:
    """The block with `change(text, pointer, is_code)` for every leaf."""
    kind = block["type"]
    changed = dict(block)
    if kind == "list":
        changed["items"] = [change(item, f"{pointer}/items/{n}", False) for n, item in enumerate(block["items"])]
    elif kind == "table":
        if block["caption"]:
            changed["caption"] = change(block["caption"], f"{pointer}/caption", False)
        changed["columns"] = [change(cell, f"{pointer}/columns/{n}", False) for n, cell in enumerate(block["columns"])]
        changed["rows"] = [
            [change(cell, f"{pointer}/rows/{y}/{x}", False) for x, cell in enumerate(row)]
            for y, row in enumerate(block["rows"])
        ]
    else:
        changed["text"] = change(block["text"], f"{pointer}/text", kind == "code")
        if kind == "callout" and block["title"]:
            changed["title"] = change(block["title"], f"{pointer}/title", False)
        elif kind == "code":
            changed["language"] = change(block["language"], f"{pointer}/language", True)
    return changed
