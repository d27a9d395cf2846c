"""The draft a model is asked for: {"title", "summary", "blocks"} of schema.json, and the texts in it."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

Draft = dict[str, Any]

SCHEMA = Path(__file__).resolve().parents[3] / "chat" / "guard" / "schema.json"
KEYS = ("title", "summary", "blocks")


@cache
def validator() -> jsonschema.Draft202012Validator:
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(
        {
            "$schema": whole["$schema"],
            "type": "object",
            "additionalProperties": False,
            "required": list(KEYS),
            "properties": {key: whole["properties"][key] for key in KEYS},
            "$defs": whole["$defs"],
        }
    )


def valid(draft: object) -> bool:
    return bool(validator().is_valid(draft))


def block_leaves(block: dict[str, Any]) -> Iterator[str]:
    match block["type"]:
        case "markdown":
            yield block["text"]
        case "list":
            yield from block["items"]
        case "table":
            yield block["caption"] or ""
            yield from block["columns"]
            for row in block["rows"]:
                yield from row
        case "code":
            yield block["language"]
            yield block["text"]
        case "callout":
            yield block["title"] or ""
            yield block["text"]


def leaves(draft: Draft) -> list[str]:
    """Every text that is not blank, in reading order; `type`, `tone` and `ordered` are form, not text."""
    found = [draft["title"], draft["summary"]]
    for block in draft["blocks"]:
        found.extend(block_leaves(block))
    return [leaf for leaf in found if leaf.strip()]


def md(text: str) -> dict[str, Any]:
    return {"type": "markdown", "text": text}


def ul(*items: str) -> dict[str, Any]:
    return {"type": "list", "ordered": False, "items": list(items)}


def ol(*items: str) -> dict[str, Any]:
    return {"type": "list", "ordered": True, "items": list(items)}


def tbl(caption: str | None, columns: list[str], *rows: list[str]) -> dict[str, Any]:
    return {"type": "table", "caption": caption, "columns": columns, "rows": list(rows)}


def code(language: str, text: str) -> dict[str, Any]:
    return {"type": "code", "language": language, "text": text}


def note(tone: str, title: str | None, text: str) -> dict[str, Any]:
    return {"type": "callout", "tone": tone, "title": title, "text": text}


def draft(title: str, summary: str, *blocks: dict[str, Any]) -> Draft:
    return {"title": title, "summary": summary, "blocks": list(blocks)}
