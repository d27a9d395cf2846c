"""Tables in the shapes that models write: Markdown, rows by name, columns described by objects."""

import re
from typing import Any

from chat.guard.fields import Alignment, Fields, flat, is_empty
from chat.guard.nodes import Array, Literal, Node, Record, Text
from chat.guard.shapes import CAPTION, COLUMN_TEXT, COLUMNS, ROWS, TABLE_TEXT, normal

# Rows by name may bring new columns; beyond these a cell names its column itself, or a table could grow as a square.
COLUMN_GROWTH_LIMIT = 60

_CELL_BREAK = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*:?-+:?\s*\Z")


def table(fields: Fields, pointer: str, alignment: Alignment) -> list[dict[str, Any]]:
    """A table block of any size, behind it what of it is no table, as Markdown."""
    caption = fields.take(CAPTION)
    columns_node, rows_node = fields.take(COLUMNS), fields.take(ROWS)
    written = fields.take(TABLE_TEXT) if is_empty(columns_node) or is_empty(rows_node) else None
    block: dict[str, Any] = {"type": "table", "caption": None if is_empty(caption) else flat(caption or Array(0))}
    names: list[str] = []
    columns = _columns(columns_node, names, pointer, alignment)
    after: list[dict[str, Any]] = []
    for node in (written, rows_node):
        if isinstance(node, Text) and "|" in node.text:
            columns, rows, rest = _markdown(node, columns, pointer, alignment)
            after += [{"type": "markdown", "text": rest}] if rest else []
            break
    else:
        rows = _rows(rows_node, columns, names, pointer, alignment)
        after += [{"type": "markdown", "text": flat(written)}] if written is not None else []
    if not columns and rows:
        columns, rows = rows[0], rows[1:]
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/columns")
    if not columns:
        return [{"type": "markdown", "text": block["caption"] or ""}, *after]
    return [{**block, "columns": columns, "rows": rows}, *after]


def _columns(node: Node | None, names: list[str], pointer: str, alignment: Alignment) -> list[str]:
    """Column headings; `names` is filled with the names by which rows given as objects refer to them."""
    if is_empty(node):
        return []
    if isinstance(node, Text):
        node = alignment.unpacked(node, f"{pointer}/columns")
    if isinstance(node, Text):
        alignment.note("LIST_WAS_STRING", f"{pointer}/columns", node)
        parts = _cells(node.text) if "|" in node.text else re.split(r",\s*", node.text)
        names += parts
        return parts
    items: list[Node] = node.items if isinstance(node, Array) else [node] if node is not None else []
    columns = []
    for index, item in enumerate(items):
        heading, name = _column(item, f"{pointer}/columns/{index}", alignment)
        columns.append(heading)
        names.append(name)
    return columns


def _column(item: Node, pointer: str, alignment: Alignment) -> tuple[str, str]:
    if isinstance(item, Text):
        return item.text, item.text
    alignment.note("ITEM_COERCED", pointer, item)
    if not isinstance(item, Record):
        return flat(item), flat(item)
    fields = Fields(item, pointer, alignment)
    name_node = fields.peek(("key", "field", "id", "accessor", "name"))
    heading = fields.take(COLUMN_TEXT)
    fields.take(("key",)), fields.take(("field",))
    if name_node is not None:
        alignment.used.append(flat(name_node))
    fields.rest()
    return flat(heading or Array(0)), flat(name_node or heading or Array(0))


def _cells(line: str) -> list[str]:
    stripped = line.strip()
    cells = _CELL_BREAK.split(stripped.removeprefix("|"))
    if stripped.endswith("|") and not stripped.endswith("\\|") and len(cells) > 1:
        cells = cells[:-1]
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _markdown(
    node: Text, columns: list[str], pointer: str, alignment: Alignment
) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows, and the lines that are no part of the table."""
    alignment.note("TABLE_WAS_MARKDOWN", pointer, node)
    rows, rest = [], []
    for line in node.text.splitlines():
        if "|" not in line:
            rest.append(line)
            continue
        cells = _cells(line)
        if not all(_RULE.match(cell) for cell in cells if cell) or not any(cells):
            rows.append(cells)
    if rows and not columns:
        columns, rows = rows[0], rows[1:]
    elif rows and rows[0] == columns:
        rows = rows[1:]
    return columns, rows, "\n".join(rest).strip("\n")


def _rows(
    node: Node | None, columns: list[str], names: list[str], pointer: str, alignment: Alignment
) -> list[list[str]]:
    if node is None or is_empty(node):
        alignment.journal.note("FIELD_DERIVED", f"{pointer}/rows")
        return []
    node = alignment.unpacked(node, f"{pointer}/rows")
    if isinstance(node, Record):
        alignment.note("ROWS_WERE_OBJECTS", f"{pointer}/rows", node)
        return _named_rows(node, columns)
    items: list[Node] = list(node.items) if isinstance(node, Array) else [node]
    if items and all(isinstance(item, Text | Literal) for item in items):
        return _loose_rows(items, columns, pointer, alignment)
    rows = []
    for index, item in enumerate(items):
        place = f"{pointer}/rows/{index}"
        if isinstance(item, Record):
            rows.append(_record_row(item, columns, names, place, alignment))
        else:
            cells = item.items if isinstance(item, Array) else [item]
            rows.append([_cell(cell, f"{place}/{n}", alignment) for n, cell in enumerate(cells)])
    return rows


def _loose_rows(items: list[Node], columns: list[str], pointer: str, alignment: Alignment) -> list[list[str]]:
    """Rows as one text each, or all cells in one array."""
    alignment.note("ITEM_COERCED", f"{pointer}/rows", items[0])
    cells = [flat(item) for item in items]
    if any("|" in cell for cell in cells):
        rows = [_cells(cell) for cell in cells]
        return [row for row in rows if not all(_RULE.match(cell) for cell in row)]
    width = len(columns) or 1
    if len(cells) % width == 0:
        return [cells[start : start + width] for start in range(0, len(cells), width)]
    return [[cell] for cell in cells]


def _cell(node: Node, pointer: str, alignment: Alignment) -> str:
    if isinstance(node, Text):
        return node.text
    alignment.note("ITEM_COERCED", pointer, node)
    if isinstance(node, Record) and [normal(key.text) for key, _ in node.members] in (["text"], ["value"], ["content"]):
        alignment.used.append(node.members[0][0].text)
        return flat(node.members[0][1])
    if isinstance(node, Literal) and node.value is None:
        alignment.used.append(node.lexeme)
    return flat(node)


def _record_row(record: Record, columns: list[str], names: list[str], pointer: str, alignment: Alignment) -> list[str]:
    """A row by name. A name that is no column yet becomes one, at the right."""
    alignment.note("ROWS_WERE_OBJECTS", pointer, record)
    lone = record.members[0][1] if len(record.members) == 1 else None
    if isinstance(lone, Array) and normal(record.members[0][0].text) in ("cells", "row", "values", "columns", "data"):
        alignment.used.append(record.members[0][0].text)
        return [_cell(cell, f"{pointer}/{n}", alignment) for n, cell in enumerate(lone.items)]
    row = [""] * len(columns)
    for key, value in record.members:
        index = _column_index(key.text, columns, names)
        cell = value.text if isinstance(value, Text) else _cell(value, f"{pointer}/{key.text[:60]}", alignment)
        if index is None and len(columns) >= COLUMN_GROWTH_LIMIT:
            row.append(f"{key.text}: {cell}")
            continue
        if index is None:
            columns.append(key.text)
            names.append(key.text)
            row += [""] * (len(columns) - len(row))
            index = len(columns) - 1
        row[index] = f"{row[index]} {cell}" if row[index] else cell
        alignment.used.append(key.text)
    return row


def _column_index(name: str, columns: list[str], names: list[str]) -> int | None:
    for heads in (columns, names):
        if name in heads[:COLUMN_GROWTH_LIMIT]:
            return heads.index(name)
    plain = normal(name)
    for heads in (columns, names):
        for index, head in enumerate(heads[:COLUMN_GROWTH_LIMIT]):
            if plain and normal(head) == plain:
                return index
    return None


def _named_rows(record: Record, columns: list[str]) -> list[list[str]]:
    """{"row": [cells]} with the name as the first cell, or {"column": [cells]} turned round."""
    cells = [
        [flat(cell) for cell in value.items] if isinstance(value, Array) else [flat(value)]
        for _, value in record.members
    ]
    heads = [key.text for key, _ in record.members]
    if not columns or heads == columns:
        columns[:] = heads
        height = max((len(column) for column in cells), default=0)
        return [[column[row] if row < len(column) else "" for column in cells] for row in range(height)]
    return [[head, *row] for head, row in zip(heads, cells, strict=True)]
