"""A draft of the agreed shape brought within the schema's bounds: split, never shortened."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from chat.guard.draft import block_text
from chat.guard.events import Journal
from chat.guard.schema import DRAFT

Block: TypeAlias = dict[str, Any]

_FIELDS = {name: DRAFT["$defs"][name]["properties"] for name in ("markdown", "list", "table", "code", "callout")}
TITLE_LIMIT: int = DRAFT["properties"]["title"]["maxLength"]
SUMMARY_LIMIT: int = DRAFT["properties"]["summary"]["maxLength"]
BLOCK_LIMIT: int = DRAFT["properties"]["blocks"]["maxItems"]
TEXT_LIMIT: int = _FIELDS["markdown"]["text"]["maxLength"]
ITEM_LIMIT: int = _FIELDS["list"]["items"]["items"]["maxLength"]
ITEMS_LIMIT: int = _FIELDS["list"]["items"]["maxItems"]
CELL_LIMIT: int = _FIELDS["table"]["columns"]["items"]["maxLength"]
COLUMNS_LIMIT: int = _FIELDS["table"]["columns"]["maxItems"]
ROWS_LIMIT: int = _FIELDS["table"]["rows"]["maxItems"]
CAPTION_LIMIT: int = _FIELDS["table"]["caption"]["maxLength"]
LANGUAGE_LIMIT: int = _FIELDS["code"]["language"]["maxLength"]
CALLOUT_LIMIT: int = _FIELDS["callout"]["text"]["maxLength"]
CALLOUT_TITLE_LIMIT: int = _FIELDS["callout"]["title"]["maxLength"]


def fit(draft: dict[str, Any], journal: Journal) -> dict[str, Any]:
    """`draft` with every part within its bound; what a part cannot hold goes on in the next, word for word."""
    title, *more_title = pieces(draft["title"], TITLE_LIMIT)
    summary, *more_summary = pieces(draft["summary"], SUMMARY_LIMIT)
    for pointer, more in (("/title", more_title), ("/summary", more_summary)):
        if more:
            journal.note("SPLIT_LONG", pointer)
    # What is cut here stands whole, as a heading or a paragraph of its own.
    overflow = [draft[name] for name, more in (("title", more_title), ("summary", more_summary)) if more]
    blocks = [_markdown(part) for text in overflow for part in pieces(text, TEXT_LIMIT)]
    for index, block in enumerate(draft["blocks"]):
        parts = list(_fitted(block))
        if parts != [block]:
            journal.note("SPLIT_LONG", f"/blocks/{index}")
        blocks += parts
    if len(blocks) > BLOCK_LIMIT:
        journal.note("BLOCKS_MERGED", f"/blocks/{BLOCK_LIMIT}")
        blocks = merged(blocks)
    return {"title": title, "summary": summary, "blocks": blocks}


def pieces(text: str, limit: int) -> list[str]:
    """Parts of at most `limit` characters that join to the text again, cut at a line's end, else at a word's.

    All but the last are at least half as long, so that their number is bounded.
    """
    parts = []
    start = 0
    while len(text) - start > limit:
        end = start + limit
        middle = start + limit // 2
        cut = text.rfind("\n", middle, end) + 1 or text.rfind(" ", middle, end) + 1 or end
        parts.append(text[start:cut])
        start = cut
    return [*parts, text[start:]]


def _markdown(text: str) -> Block:
    return {"type": "markdown", "text": text}


def _fitted(block: Block) -> Iterator[Block]:
    if block["type"] == "markdown":
        yield from map(_markdown, pieces(block["text"], TEXT_LIMIT))
    elif block["type"] == "list":
        yield from _fitted_list(block)
    elif block["type"] == "table":
        yield from _fitted_table(block)
    elif block["type"] == "code":
        language = block["language"]
        if len(language) > LANGUAGE_LIMIT:
            yield from map(_markdown, pieces(language, TEXT_LIMIT))
            language = ""
        yield from ({**block, "language": language, "text": part} for part in pieces(block["text"], TEXT_LIMIT))
    else:
        title, *more = pieces(block["title"], CALLOUT_TITLE_LIMIT) if block["title"] is not None else [None]
        text = "".join([*more, "\n", block["text"]]) if more else block["text"]
        first, *rest = pieces(text, CALLOUT_LIMIT)
        yield {**block, "title": title, "text": first}
        yield from ({**block, "title": None, "text": part} for part in rest)


def _fitted_list(block: Block) -> Iterator[Block]:
    items = [part for item in block["items"] for part in pieces(item, ITEM_LIMIT)]
    for start in range(0, len(items), ITEMS_LIMIT):
        yield {**block, "items": items[start : start + ITEMS_LIMIT]}


def _fitted_table(block: Block) -> Iterator[Block]:
    """Wide tables and long ones one below the other; a cell too long is cut and stands whole below the table."""
    caption = block["caption"]
    if caption is not None and len(caption) > CAPTION_LIMIT:
        yield from map(_markdown, pieces(caption, TEXT_LIMIT))
        caption = None
    long = [cell for row in (block["columns"], *block["rows"]) for cell in row if len(cell) > CELL_LIMIT]
    columns, rows = _cut(block["columns"]), [_cut(row) for row in block["rows"]]
    width = max(len(columns), *(len(row) for row in rows)) if rows else len(columns)
    for left in range(0, width, COLUMNS_LIMIT):
        heads = columns[left : left + COLUMNS_LIMIT] or [""]
        part = [row[left : left + COLUMNS_LIMIT] for row in rows]
        for top in range(0, len(part) or 1, ROWS_LIMIT):
            yield {"type": "table", "caption": caption, "columns": heads, "rows": part[top : top + ROWS_LIMIT]}
            caption = None
    for cell in long:
        yield from map(_markdown, pieces(cell, TEXT_LIMIT))


def _cut(row: list[str]) -> list[str]:
    return [cell if len(cell) <= CELL_LIMIT else pieces(cell, CELL_LIMIT)[0] for cell in row]


def merged(blocks: list[Block], kept: int = 0) -> list[Block]:
    """At most BLOCK_LIMIT blocks: behind the first `kept`, as few as it takes are joined into Markdown.

    256 KiB of text fill at most 27 blocks of half the bound; so 32 blocks stay as they are, and 32 hold the rest.
    """
    keep = max(kept, BLOCK_LIMIT // 2)
    text = "\n\n".join(block_text(block) for block in blocks[keep:])
    return [*blocks[:keep], *map(_markdown, pieces(text, TEXT_LIMIT))]
