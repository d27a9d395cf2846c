"""The one schema of an answer, and the draft's, derived from it by code.

`ANSWER` is the whole answer as a client gets it. `DRAFT` is the part a model writes (title, summary, blocks): the
server adds citations and meta. What a provider is asked to enforce is derived in `wire`.
"""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs

VERSION = "v2"
DRAFT_FIELDS = ("title", "summary", "blocks")
BLOCK_TYPES = ("markdown", "list", "table", "code", "callout")

ANSWER: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))


def _draft() -> dict[str, Any]:
    return {
        "$schema": ANSWER["$schema"],
        "type": "object",
        "additionalProperties": False,
        "required": list(DRAFT_FIELDS),
        "properties": {name: ANSWER["properties"][name] for name in DRAFT_FIELDS},
        "$defs": {name: ANSWER["$defs"][name] for name in ("block", *BLOCK_TYPES)},
    }


DRAFT = _draft()
_answer_validator = jsonschema_rs.Draft202012Validator(ANSWER)
_draft_validator = jsonschema_rs.Draft202012Validator(DRAFT)
_head_validator = jsonschema_rs.Draft202012Validator(
    {
        "$schema": ANSWER["$schema"],
        "type": "object",
        "additionalProperties": False,
        "properties": {name: ANSWER["properties"][name] for name in ("title", "summary")},
    }
)
_block_is_valid = {
    kind: jsonschema_rs.Draft202012Validator({"$schema": ANSWER["$schema"], **ANSWER["$defs"][kind]}).is_valid
    for kind in BLOCK_TYPES
}


class InvalidAnswer(Exception):
    """An answer that this process put together does not satisfy the schema: a fault of ours, named by its path."""


def answer_check(answer: dict[str, Any]) -> None:
    """Raises InvalidAnswer with the path of the first fault, never its text."""
    if not _answer_validator.is_valid(answer):
        error = next(iter(_answer_validator.iter_errors(answer)))
        raise InvalidAnswer("/" + "/".join(str(step) for step in error.instance_path))


def draft_valid(draft: Any) -> bool:
    return bool(_draft_validator.is_valid(draft))


def draft_fault(draft: Any) -> str | None:
    """None for a valid draft, else the JSON pointer of the first fault."""
    if _draft_validator.is_valid(draft):
        return None
    error = next(iter(_draft_validator.iter_errors(draft)))
    return "/" + "/".join(str(step) for step in error.instance_path)


def block_valid(block: Any) -> bool:
    """By the block's own type: one small schema instead of all five."""
    kind = block.get("type") if isinstance(block, dict) else None
    is_valid = _block_is_valid.get(kind) if isinstance(kind, str) else None
    return is_valid is not None and bool(is_valid(block))


def head_valid(head: Any) -> bool:
    """Whether title and summary, as far as given, are valid, and nothing else is there."""
    return bool(_head_validator.is_valid(head))
