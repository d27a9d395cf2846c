"""One node of the reply's blocks, whatever its shape, as blocks of the agreed kinds (of any length: `fit` splits)."""

from typing import Any, TypeAlias

from chat.guard.fields import Alignment, Fields, flat, is_empty, list_lines
from chat.guard.nodes import Array, Literal, Node, Record, Text
from chat.guard.shapes import (
    BLOCK_TYPE,
    CALLOUT_TITLE,
    CODE_TEXT,
    COLUMNS,
    FALSE,
    HEADING_TEXT,
    ITEM_TEXT,
    ITEMS,
    LANGUAGE,
    ORDERED,
    ORDERED_TYPES,
    ROWS,
    TEXT,
    TONE,
    TONES,
    TRUE,
    TYPE,
    normal,
)
from chat.guard.tables import table

Block: TypeAlias = dict[str, Any]
HEADINGS = frozenset({"heading", "header", "title", "subheading", "h1", "h2", "h3", "h4"})
SPLIT_DEPTH = 8


def blocks_of(node: Node, alignment: Alignment, pointer: str = "/blocks", depth: int = 0) -> list[Block]:
    """All blocks in `node`, which stands where the array of blocks should."""
    node = alignment.unpacked(node, pointer)
    if isinstance(node, Record) and not _is_block(node):
        return _named_blocks(node, alignment, pointer, depth)
    if not isinstance(node, Array):
        if isinstance(node, Record):
            alignment.note("WRAPPED", pointer, node)
        return _block(node, alignment, f"{pointer}/0", depth)
    found: list[Block] = []
    for item in node.items:
        found += _block(item, alignment, f"{pointer}/{len(found)}", depth)
    return found


def _is_block(record: Record) -> bool:
    fields = {normal(key.text) for key, _ in record.members}
    return bool(fields & {"type", "text", "items", "rows", "columns", "content"})


def _named_blocks(record: Record, alignment: Alignment, pointer: str, depth: int) -> list[Block]:
    """Blocks as members of an object: the names are shown, unless they are numbers or kinds of block."""
    alignment.note("WRAPPED", pointer, record)
    found: list[Block] = []
    for key, value in record.members:
        kind = normal(key.text)
        place = f"{pointer}/{len(found)}"
        alignment.used.append(key.text)
        if kind in BLOCK_TYPE:
            found += _block(_typed_as(key, value), alignment, place, depth)
            continue
        if kind.rstrip("0123456789") not in ("", "block", "section", "part", "item"):
            found.append({"type": "markdown", "text": key.text})
        found += _block(value, alignment, place, depth)
    return found


def _typed_as(key: Text, value: Node) -> Record:
    """{"table": {...}} as {"type": "table", ...}."""
    kind = Text(key.text, key.start, key.end)
    type_key = Text("type", key.start, key.end)
    if isinstance(value, Record):
        return Record(value.start, value.end, [(type_key, kind), *value.members])
    name = "items" if BLOCK_TYPE[normal(key.text)] == "list" else "text"
    return Record(value.start, value.end, [(type_key, kind), (Text(name, key.start, key.end), value)])


def _block(node: Node, alignment: Alignment, pointer: str, depth: int) -> list[Block]:
    if isinstance(node, Text):
        inner = alignment.unpacked(node, pointer)
        if not isinstance(inner, Text):
            return _block(inner, alignment, pointer, depth)
        alignment.note("BLOCK_WAS_STRING", pointer, node)
        return [{"type": "markdown", "text": node.text}]
    if isinstance(node, Literal):
        alignment.note("ITEM_COERCED", pointer, node)
        alignment.used.append(node.lexeme)
        return [] if node.value is None else [{"type": "markdown", "text": node.lexeme}]
    if isinstance(node, Array):
        return _array_block(node, alignment, pointer, depth)
    if depth >= SPLIT_DEPTH:
        return [{"type": "markdown", "text": flat(node)}]
    return _record_block(node, alignment, pointer, depth)


def _array_block(node: Array, alignment: Alignment, pointer: str, depth: int) -> list[Block]:
    alignment.note("WRAPPED", pointer, node)
    if not node.items:
        return []
    if all(isinstance(item, Text | Literal) for item in node.items):
        return [{"type": "list", "ordered": False, "items": [flat(item) for item in node.items]}]
    records = [item for item in node.items if isinstance(item, Record)]
    if len(records) == len(node.items) and not any(_is_block(record) for record in records):
        rows = Record(node.start, node.end, [(Text("rows", node.start, node.start), node)])
        return table(Fields(rows, pointer, alignment), pointer, alignment)
    return [block for item in node.items for block in _block(item, alignment, pointer, depth + 1)]


def _record_block(record: Record, alignment: Alignment, pointer: str, depth: int) -> list[Block]:
    if len(record.members) == 1 and normal(record.members[0][0].text) in BLOCK_TYPE:
        key, value = record.members[0]
        if normal(key.text) != "text":
            alignment.note("WRAPPED", pointer, key)
            record = _typed_as(key, value)
    record = _unlayered(record, alignment, pointer)
    fields = Fields(record, pointer, alignment)
    kind, written = _kind(fields, alignment, pointer)
    if kind == "list":
        found = [_list(fields, written, pointer, alignment)]
    elif kind == "table":
        found = table(fields, pointer, alignment)
    elif kind == "code":
        found = [_code(fields, pointer, alignment)]
    elif kind == "callout":
        found = [_callout(fields, written, pointer, alignment)]
    else:
        found = _markdown(fields, written, pointer, alignment, depth)
    fields.rest()
    return found


def _unlayered(record: Record, alignment: Alignment, pointer: str) -> Record:
    """{"type": "list", "data": {"items": ...}} without the layer between."""
    members: list[tuple[Text, Node]] = []
    layered = False
    for key, value in record.members:
        if isinstance(value, Record) and normal(key.text) in (
            "data",
            "props",
            "attrs",
            "attributes",
            "content",
            "params",
        ):
            alignment.used.append(key.text)
            members += value.members
            layered = True
        else:
            members.append((key, value))
    if not layered:
        return record
    alignment.note("WRAPPED", pointer, record)
    return Record(record.start, record.end, members)


def _kind(fields: Fields, alignment: Alignment, pointer: str) -> tuple[str, str]:
    """The agreed kind and the kind as written; inferred from what the block holds where it must be."""
    node = fields.peek(TYPE)
    written = normal(node.text) if isinstance(node, Text) else ""
    kind = BLOCK_TYPE.get(written)
    if kind is not None and node is not None:
        taken = fields.take(TYPE)
        alignment.used.append(flat(taken or node))
        if flat(node) != kind:
            alignment.note("KEY_ALIAS", f"{pointer}/type", node, kind)
    held = _held(fields)
    if kind is None or (held in ("list", "table") and kind == "markdown" and not fields.has(TEXT)):
        alignment.note("TYPE_INFERRED", f"{pointer}/type", fields.record)
        return held, written
    if kind == "callout" and fields.has(COLUMNS) and fields.has(ROWS):
        return "table", written
    return kind, written


def _held(fields: Fields) -> str:
    if fields.has(("columns", "headers", "rows", "header_row")):
        return "table"
    if fields.has(("items", "bullets", "steps", "list")):
        return "list"
    if fields.has(("language", "lang", "code")):
        return "code"
    return "callout" if fields.has(("tone", "severity", "level")) and fields.has(TEXT) else "markdown"


def text_of(node: Node | None, pointer: str, alignment: Alignment, joint: str = "\n\n") -> str:
    """A text field's text; pieces are joined, anything else is shown with all its words."""
    if node is None:
        return ""
    if isinstance(node, Text):
        return node.text
    if isinstance(node, Array):
        alignment.note("TEXT_WAS_LIST", pointer, node)
        return joint.join(flat(item) for item in node.items)
    alignment.note("ITEM_COERCED", pointer, node)
    if isinstance(node, Literal):
        alignment.used.append(node.lexeme)
    return flat(node)


def _markdown(fields: Fields, written: str, pointer: str, alignment: Alignment, depth: int) -> list[Block]:
    heading = fields.take(("title", "heading", "header", "name")) if written not in HEADINGS else None
    level = fields.take(("level", "depth"))
    node = fields.take(HEADING_TEXT if written in HEADINGS else TEXT)
    found: list[Block] = []
    if written in HEADINGS:
        marks = "#" * (int(flat(level)) if level is not None and flat(level) in "123456" else 2)
        alignment.used.append(flat(level) if level is not None else "")
        return [{"type": "markdown", "text": f"{marks} {text_of(node, pointer, alignment)}"}]
    if heading is not None and not is_empty(heading):
        alignment.note("KEY_ALIAS", f"{pointer}/text", heading)
        found.append({"type": "markdown", "text": f"### {flat(heading)}"})
    if isinstance(node, Array) and any(isinstance(item, Record) for item in node.items):
        found += blocks_of(node, alignment, pointer, depth + 1)
    elif node is not None or not found:
        if node is None:
            alignment.journal.note("FIELD_DERIVED", f"{pointer}/text")
        found.append({"type": "markdown", "text": text_of(node, f"{pointer}/text", alignment)})
    for name in ("blocks", "children", "sections", "subsections", "items"):
        inner = fields.take((name,))
        found += blocks_of(inner, alignment, pointer, depth + 1) if inner is not None else []
    return found


def _list(fields: Fields, written: str, pointer: str, alignment: Alignment) -> Block:
    ordered = _ordered(fields, written, pointer, alignment)
    node = fields.take(ITEMS) or fields.take(TEXT)
    heading = fields.take(("title", "heading", "caption", "name"))
    if node is None:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/items")
        return {"type": "markdown", "text": flat(heading) if heading else ""}
    node = alignment.unpacked(node, f"{pointer}/items", "[")
    if isinstance(node, Text):
        alignment.note("LIST_WAS_STRING", f"{pointer}/items", node)
        items, numbered = list_lines(node.text)
        if numbered:
            alignment.used += [str(n) for n in range(1, len(items) + 1)]
        ordered = ordered or numbered
    else:
        items = _items(node, f"{pointer}/items", alignment)
    if heading is not None and not is_empty(heading):
        alignment.extras.append(flat(heading))
        alignment.note("EXTRA_KEYS", pointer, heading)
    if not items:
        return {"type": "markdown", "text": ""}
    return {"type": "list", "ordered": ordered, "items": items}


def _ordered(fields: Fields, written: str, pointer: str, alignment: Alignment) -> bool:
    node = fields.peek(ORDERED)
    if isinstance(node, Literal) and isinstance(node.value, bool):
        fields.take(ORDERED)
        alignment.used.append(node.lexeme)
        return node.value
    word = normal(flat(node)) if node is not None else ""
    if node is not None and (word in TRUE or word in FALSE or not word):
        fields.take(ORDERED)
        alignment.note("ITEM_COERCED", f"{pointer}/ordered", node)
        alignment.used.append(flat(node))
        return word in TRUE
    if written not in ORDERED_TYPES:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/ordered")
    return written in ORDERED_TYPES


def _items(node: Node, pointer: str, alignment: Alignment) -> list[str]:
    nodes = node.items if isinstance(node, Array) else [node]
    if isinstance(node, Record) and len(node.members) > 1:
        alignment.note("ITEM_COERCED", pointer, node)
        return [f"{key.text}: {flat(value)}" for key, value in node.members]
    items: list[str] = []
    for index, item in enumerate(nodes):
        if isinstance(item, Text):
            items.append(item.text)
            continue
        place = f"{pointer}/{index}"
        alignment.note("ITEM_COERCED", place, item)
        if isinstance(item, Array):
            items += [flat(part) for part in item.items]
        elif isinstance(item, Literal) and item.value is None:
            alignment.used.append(item.lexeme)
        else:
            items.append(_item(item, alignment))
    return items


def _item(node: Node, alignment: Alignment) -> str:
    """An item given as an object: one text, its usual names left out, any other kept before its value."""
    if not isinstance(node, Record):
        return flat(node)
    parts = []
    for key, value in node.members:
        name = normal(key.text)
        if name in ITEM_TEXT or name in ("title", "heading", "type"):
            alignment.used.append(key.text)
            parts.append(flat(value))
        else:
            parts.append(f"{key.text}: {flat(value)}")
    return ": ".join(part for part in parts if part)


def _code(fields: Fields, pointer: str, alignment: Alignment) -> Block:
    language = fields.take(LANGUAGE)
    if language is None:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/language")
    node = fields.take(CODE_TEXT)
    if node is None:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/text")
    name = text_of(language, f"{pointer}/language", alignment) if not is_empty(language) else ""
    return {"type": "code", "language": name, "text": text_of(node, f"{pointer}/text", alignment, "\n")}


def _callout(fields: Fields, written: str, pointer: str, alignment: Alignment) -> Block:
    tone_node = fields.peek(TONE)
    word = normal(flat(tone_node)) if tone_node is not None else written
    tone = TONES.get(word)
    if tone_node is not None and tone is not None:
        fields.take(TONE)
        alignment.used.append(flat(tone_node))
    if tone is None or flat(tone_node or Text("", 0, 0)) != tone:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/tone", after=tone or "info")
    title = fields.take(CALLOUT_TITLE)
    if title is None:
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/title")
    node = fields.take(TEXT)
    if node is None:
        node = fields.take(ITEMS)
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/text")
    heading = None if title is None or is_empty(title) else text_of(title, f"{pointer}/title", alignment, " ")
    text = text_of(node, f"{pointer}/text", alignment, "\n")
    return {"type": "callout", "tone": tone or "info", "title": heading, "text": text}
