"""Faults of form: the JSON may be fine, what it says is not the draft that was asked for."""

import json
import re
from typing import Any

from tests.guard.corpus.cases import Case, fault
from tests.guard.corpus.draft import leaves
from tests.guard.corpus.writer import Bare, Pairs

ALIASES = {
    "heading": {"title": "heading"},
    "name": {"title": "name"},
    "content": {"text": "content"},
    "body": {"text": "body"},
    "sections": {"blocks": "sections"},
    "content_blocks": {"blocks": "content"},
    "kind": {"type": "kind"},
    "block_type": {"type": "block_type"},
    "lines": {"items": "lines"},
    "bullets": {"items": "bullets"},
    "headers": {"columns": "headers"},
    "header_data": {"columns": "header", "rows": "data"},
    "overview": {"summary": "overview"},
    "abstract": {"summary": "abstract"},
    "level": {"tone": "level"},
    "code_lang": {"language": "lang", "text": "code"},
    "capitals": {"title": "Title", "summary": "Summary", "blocks": "Blocks"},
    "many": {"title": "heading", "summary": "overview", "blocks": "sections", "text": "content", "type": "kind"},
}
TYPE_ALIASES = {
    "paragraph": ("markdown", "paragraph"),
    "text": ("markdown", "text"),
    "Markdown": ("markdown", "Markdown"),
    "bullet_list": ("list", "bullet_list"),
    "warning": ("callout", "warning"),
    "note": ("callout", "note"),
    "code_block": ("code", "code_block"),
    "data_table": ("table", "data_table"),
}
MISSING = {
    "summary": (None, "summary"),
    "title": (None, "title"),
    "ordered": ("list", "ordered"),
    "caption": ("table", "caption"),
    "tone": ("callout", "tone"),
    "callout_title": ("callout", "title"),
    "language": ("code", "language"),
    "type": ("any", "type"),
    "columns": ("table", "columns"),
    "blocks_text": (None, "blocks"),
}


def renamed(tree: Any, names: dict[str, str]) -> Any:
    if isinstance(tree, dict):
        return {names.get(key, key): renamed(value, names) for key, value in tree.items()}
    return [renamed(value, names) for value in tree] if isinstance(tree, list) else tree


def markdown_table(block: dict[str, Any]) -> str:
    rows = [block["columns"], ["---"] * len(block["columns"]), *block["rows"]]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in row) + " |" for row in rows
    )


@fault("keys", "tree", *ALIASES, each=1)
def alias(case: Case, flavour: str) -> bool:
    before = json.dumps(case.tree)
    case.tree = renamed(case.tree, ALIASES[flavour])
    return json.dumps(case.tree) != before


@fault("keys", "tree", *TYPE_ALIASES, each=1)
def type_alias(case: Case, flavour: str) -> bool:
    kind, other = TYPE_ALIASES[flavour]
    for number in case.blocks(kind):
        case.tree["blocks"][number]["type"] = other
        case.harmless = case.harmless and flavour not in {"warning", "note", "text"}
    return other in {block.get("type") for block in case.tree["blocks"]}


@fault("missing keys", "tree", *MISSING, each=2)
def missing(case: Case, flavour: str) -> bool:
    kind, key = MISSING[flavour]
    case.harmless = False
    if kind is None:
        if not case.tree.get(key):
            return False
        lost = case.tree.pop(key)
        told = leaves(case.answer) if case.answer else []
        if flavour == "blocks_text":
            case.must = [text for text in (case.answer["title"], case.answer["summary"]) if text] if case.answer else []
            case.answer = None
        else:
            told.remove(lost)
            case.must = told
        return True
    found = [block for block in case.tree["blocks"] if kind in (block.get("type"), "any") and key in block]
    if not found:
        return False
    block = case.rng.choice(found)
    original = case.answer["blocks"][case.tree["blocks"].index(block)] if case.answer else {}
    lost = block.pop(key)
    case.harmless = kind == "table" and lost is None
    told = leaves(case.answer) if case.answer else []
    for text in [lost] if key in {"caption", "title", "language"} else original["columns"] if key == "columns" else []:
        if text and text.strip():
            told.remove(text)
    case.must = told
    return True


@fault("extra keys", "tree", "confidence", "id", "text", "references", "in_block", "nested", each=2)
def extra_key(case: Case, flavour: str) -> bool:
    tree = case.tree
    match flavour:
        case "confidence":
            tree["confidence"] = 0.87
        case "id":
            for number, block in enumerate(tree["blocks"], start=1):
                block["id"] = f"b{number}"
        case "text":
            tree["caveat"] = "Ask the certifier whether the amendment of May applies to your permit."
            case.extra.append(tree["caveat"])
            case.harmless = False
        case "references":
            tree["references"] = ["NCC 2022 Volume One", "Practice Note BP-2023-07"]
            case.extra += tree["references"]
            case.harmless = False
        case "in_block":
            block = case.rng.choice(tree["blocks"])
            block["footnote"] = "Amended by the state variation in Schedule 4."
            case.extra.append(block["footnote"])
            case.harmless = False
        case "nested":
            tree["meta"] = {"version": 2, "tokens": {"prompt": 812, "completion": 1204}, "cached": False}
    return True


@fault("tables", "tree", "in_markdown", "table_text", "table_text_title", "rows_text", "csv_rows", each=3, only="table")
def table_as_text(case: Case, flavour: str) -> bool:
    number = case.rng.choice(case.blocks("table"))
    block = case.tree["blocks"][number]
    if block["rows"] and any("\n" in cell for row in block["rows"] for cell in row):
        return False
    text = markdown_table(block)
    caption = block["caption"] or ""
    case.harmless = flavour in {"table_text_title", "csv_rows"}
    new: dict[str, Any] = {"type": "table", "text": text}
    match flavour:
        case "in_markdown":
            new = {"type": "markdown", "text": f"{caption}\n\n{text}".strip()}
        case "table_text":
            case.must = [leaf for leaf in leaves(case.answer) if leaf != caption] if case.answer else []
        case "table_text_title":
            new = {"type": "table", "caption": block["caption"], "text": text}
        case "rows_text":
            new = {
                "type": "table",
                "caption": block["caption"],
                "columns": block["columns"],
                "rows": text.split("\n")[2:],
            }
        case "csv_rows":
            if "|" in text.replace(" | ", "").replace("| ", "").replace(" |", ""):
                return False
            new = {
                "type": "table",
                "caption": block["caption"],
                "columns": " | ".join(block["columns"]),
                "rows": [" | ".join(row) for row in block["rows"]],
            }
    case.tree["blocks"][number] = new
    return True


@fault(
    "tables",
    "tree",
    "with_columns",
    "without_columns",
    "cells_objects",
    "with_numbers",
    "short_rows",
    "long_rows",
    each=3,
    only="table",
)
def rows_as_objects(case: Case, flavour: str) -> bool:
    number = case.rng.choice(case.blocks("table"))
    block = case.tree["blocks"][number]
    columns = block["columns"]
    if len(set(columns)) < len(columns) or not all(len(row) == len(columns) for row in block["rows"]):
        return False
    match flavour:
        case "cells_objects":
            block["rows"] = [[{"text": cell} for cell in row] for row in block["rows"]]
        case "short_rows":
            block["rows"][-1] = block["rows"][-1][:-1]
            case.answer["blocks"][number]["rows"][-1] = block["rows"][-1]  # type: ignore[index]
            case.harmless = False
        case "long_rows":
            block["rows"][-1] = [*block["rows"][-1], "plus 10 % on site"]
            case.answer["blocks"][number]["rows"][-1] = block["rows"][-1]  # type: ignore[index]
            case.harmless = False
        case _:
            block["rows"] = [dict(zip(columns, row, strict=True)) for row in block["rows"]]
    if flavour == "without_columns":
        del block["columns"]
    if flavour == "with_numbers":
        block["rows"] = [{key: bare(cell) for key, cell in row.items()} for row in block["rows"]]
        return any(isinstance(cell, Bare) for row in block["rows"] for cell in row.values())
    return True


@fault(
    "lists",
    "tree",
    "one_string",
    "numbered_string",
    "objects",
    "objects_mixed",
    "numbers",
    "nested",
    "dict",
    each=3,
    only="list",
)
def list_items(case: Case, flavour: str) -> bool:
    block = case.tree["blocks"][case.rng.choice(case.blocks("list"))]
    items = block["items"]
    match flavour:
        case "one_string":
            block["items"] = "\n".join(f"- {item}" for item in items)
        case "numbered_string":
            block["items"] = "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))
            case.harmless = bool(block["ordered"])
        case "objects":
            block["items"] = [{"text": item} for item in items]
        case "objects_mixed":
            block["items"] = [{"item": item} if number % 2 else item for number, item in enumerate(items)]
        case "numbers":
            block["items"] = [bare(item) for item in items]
            return any(isinstance(item, Bare) for item in block["items"])
        case "nested":
            block["items"] = [items[0], *([item] for item in items[1:])]
        case "dict":
            block["items"] = {str(number): item for number, item in enumerate(items, start=1)}
    return not any("\n" in item for item in items)


def bare(text: str) -> Any:
    return Bare(text) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text) else text


@fault(
    "wrong types",
    "tree",
    "number_title",
    "bool_cell",
    "null_summary",
    "null_cell",
    "string_bool",
    "nan",
    "infinity",
    "null_item",
    "minus",
    "bare_string_block",
    each=2,
)
def wrong_type(case: Case, flavour: str) -> bool:
    tree = case.tree
    match flavour:
        case "number_title":
            case.both(lambda draft: draft.update(title="3604"))
            tree["title"] = Bare("3604")
        case "null_summary":
            case.answer["summary"] = ""  # type: ignore[index]
            tree["summary"] = None
        case "string_bool":
            lists = case.blocks("list")
            for number in lists:
                tree["blocks"][number]["ordered"] = str(tree["blocks"][number]["ordered"]).lower()
            return bool(lists)
        case "null_item":
            lists = case.blocks("list")
            if lists:
                tree["blocks"][lists[0]]["items"].insert(1, None)
            case.harmless = False
            return bool(lists)
        case "bare_string_block":
            found = case.blocks("markdown")
            if found:
                tree["blocks"][found[0]] = tree["blocks"][found[0]]["text"]
            return bool(found)
        case _:
            return bare_cell(case, flavour)
    return True


def bare_cell(case: Case, flavour: str) -> bool:
    tree = case.tree
    tables = [tree["blocks"][number] for number in case.blocks("table") if tree["blocks"][number]["rows"]]
    if not tables:
        return False
    place = tree["blocks"].index(case.rng.choice(tables))
    raw = {"bool_cell": "true", "null_cell": "null", "nan": "NaN", "infinity": "Infinity", "minus": "-7.50"}[flavour]
    for draft, cell in ((case.answer, "" if flavour == "null_cell" else raw), (tree, Bare(raw))):
        draft["blocks"][place]["rows"][-1][-1] = cell  # type: ignore[index]
    case.harmless = flavour not in {"nan", "infinity", "bool_cell"}
    return True


@fault("envelopes", "tree", "answer", "response", "array", "result_data", "draft_string", "tool_call", each=2)
def wrapped(case: Case, flavour: str) -> None:
    tree = case.tree
    match flavour:
        case "answer" | "response":
            case.tree = {flavour: tree}
        case "array":
            case.tree = [tree]
        case "result_data":
            case.tree = {"status": "ok", "result": {"data": tree}}
        case "draft_string":
            case.tree = {"answer": json.dumps(plain(tree), ensure_ascii=False)}
        case "tool_call":
            case.tree = {"name": "final_answer", "arguments": tree}


def plain(tree: Any) -> Any:
    """The tree with the writer's own kinds as ordinary values, where a fault has to write JSON of its own."""
    match tree:
        case Bare(raw):
            return json.loads(raw)
        case Pairs():
            return {key: plain(value) for key, value in tree}
        case dict():
            return {key: plain(value) for key, value in tree.items()}
        case list():
            return [plain(value) for value in tree]
    return tree


@fault(
    "duplicates",
    "tree",
    "same_title",
    "same_summary",
    "same_blocks",
    "other_title",
    "other_summary",
    "other_text",
    "other_blocks",
    each=2,
)
def duplicate_key(case: Case, flavour: str) -> bool:
    pairs = Pairs(case.tree.items())
    same, _, key = flavour.partition("_")
    if key == "text":
        found = case.blocks("markdown")
        if not found:
            return False
        block = case.tree["blocks"][found[0]]
        case.tree["blocks"][found[0]] = Pairs(
            [("type", "markdown"), ("text", "Distances are rounded up."), ("text", block["text"])]
        )
        case.extra.append("Distances are rounded up.")
    else:
        if not case.tree[key]:
            return False
        others = {
            "title": "Draft heading of the reply",
            "summary": "An earlier précis, kept.",
            "blocks": [{"type": "markdown", "text": "First attempt at the reply."}],
        }
        pairs.insert(case.rng.choice([0, len(pairs)]), (key, case.tree[key] if same == "same" else others[key]))
        case.tree = pairs
        if same == "other":
            case.extra.append("First attempt at the reply." if key == "blocks" else str(others[key]))
    case.harmless = same == "same"
    return True
