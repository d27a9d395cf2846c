"""The closed tables of shapes that models write instead of the agreed one. What is not here is not guessed at.

Names are compared by `normal`: lower case, without separators, so that "Block_Type" is "blocktype".
"""

import re
from typing import Final


def normal(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


TITLE: Final = ("title", "heading", "header", "headline", "answer_title", "subject")
SUMMARY: Final = (
    "summary", "abstract", "overview", "tldr", "short_answer", "intro", "introduction", "description", "synopsis",
)  # fmt: skip
BLOCKS: Final = ("blocks", "content", "sections", "body", "elements", "components", "parts", "answer_blocks", "items")
# An extra layer around the answer: its name, when what is inside has the answer's own names.
WRAPPERS: Final = (
    "answer", "response", "result", "data", "output", "reply", "json", "draft", "message", "content", "payload",
    "arguments", "parameters", "input", "properties", "choices", "delta", "final", "final_answer", "function", "value",
    "structured_output", "tool_calls", "root",
)  # fmt: skip
TEXT: Final = (
    "text", "content", "body", "value", "markdown", "md", "paragraph", "message", "description", "html", "data",
)  # fmt: skip
CODE_TEXT: Final = ("text", "code", "content", "source", "snippet", "value", "body", "lines")
LANGUAGE: Final = ("language", "lang", "syntax")
ITEMS: Final = ("items", "list", "bullets", "entries", "points", "steps", "elements", "content", "children", "values")
ORDERED: Final = ("ordered", "numbered", "is_ordered", "style", "list_type")
CAPTION: Final = ("caption", "title", "heading", "name")
COLUMNS: Final = ("columns", "headers", "header", "head", "cols", "fields", "column_names", "headings")
ROWS: Final = ("rows", "data", "body", "cells", "values", "records", "entries")
TABLE_TEXT: Final = ("text", "markdown", "content", "table", "value", "md")
TONE: Final = ("tone", "level", "severity", "variant", "style", "kind")
CALLOUT_TITLE: Final = ("title", "heading", "header", "label")
TYPE: Final = ("type", "kind", "block_type", "blockType", "format", "component", "element", "tag")
ITEM_TEXT: Final = ("text", "item", "content", "value", "label", "name", "description")
COLUMN_TEXT: Final = ("label", "title", "header", "name", "text", "headername", "key", "field", "id")
HEADING_TEXT: Final = ("text", "content", "title", "heading", "value")

BLOCK_TYPE: Final = {
    **dict.fromkeys(("markdown", "md", "paragraph", "text", "p", "quote", "section", "richtext", "html"), "markdown"),
    **dict.fromkeys(("heading", "header", "h1", "h2", "h3", "h4", "title", "subheading"), "markdown"),
    **dict.fromkeys(("list", "bulletlist", "bulletedlist", "bullets", "unorderedlist", "ul", "checklist"), "list"),
    **dict.fromkeys(("orderedlist", "numberedlist", "ol", "steps"), "list"),
    **dict.fromkeys(("table", "grid", "datatable"), "table"),
    **dict.fromkeys(("code", "codeblock", "snippet", "pre", "formula", "latex"), "code"),
    **dict.fromkeys(("callout", "alert", "admonition", "note", "info", "tip", "warning", "caution"), "callout"),
    **dict.fromkeys(("danger", "error", "success", "important", "notice", "hint"), "callout"),
}  # fmt: skip
ORDERED_TYPES: Final = frozenset({"orderedlist", "numberedlist", "ol", "steps"})
TONES: Final = {
    **dict.fromkeys(("info", "note", "information", "notice", "hint", "neutral", "informational"), "info"),
    **dict.fromkeys(("warning", "warn", "caution", "important", "attention"), "warning"),
    **dict.fromkeys(("danger", "error", "critical", "severe", "alert"), "danger"),
    **dict.fromkeys(("success", "tip", "ok", "positive", "good"), "success"),
}
TRUE: Final = frozenset({"true", "yes", "1", "ordered", "numbered", "ol", "decimal", "number", "on"})
FALSE: Final = frozenset({"false", "no", "0", "unordered", "bullet", "bulleted", "bullets", "ul", "disc", "off"})

LEGACY: Final = frozenset({"emojimap", "mentoringinsight"})
# Names by which an object shows that it is meant as an answer, and not as an example in one.
ROOT_NAMES: Final = frozenset(normal(name) for name in ("title", "summary", "blocks", *LEGACY))

KNOWN: Final = tuple(
    sorted(
        {
            name
            for names in (
                TITLE, SUMMARY, BLOCKS, WRAPPERS, TEXT, CODE_TEXT, LANGUAGE, ITEMS, ORDERED, CAPTION, COLUMNS, ROWS,
                TONE, TYPE, ("citations", "meta", "emoji_map", "mentoring_insight", "suggested_actions"),
            )
            for name in names
        },
        key=lambda name: (-len(name), name),
    )
)  # fmt: skip
