"""The one schema of an answer, and the two others that are derived from it by code.

`ANSWER` is the whole answer as a client gets it. `DRAFT` is the part a model writes (title, summary, blocks): the
server adds citations and meta. `wire_schema` is what a provider is asked to enforce: no bounds of length or number
and no patterns, which several servers refuse.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema_rs

VERSION = "v2"
DRAFT_FIELDS = ("title", "summary", "blocks")
# OpenAI's strict mode documents no support for these; llama.cpp answers 400 to a maxLength of 2000 and more.
NOT_ON_THE_WIRE = frozenset(
    {"$id", "$schema", "maxItems", "maxLength", "minItems", "minLength", "minimum", "maximum", "pattern"}
)

ANSWER: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))


def _draft() -> dict[str, Any]:
    blocks = ("block", "markdown", "list", "table", "code", "callout")
    return {
        "$schema": ANSWER["$schema"],
        "type": "object",
        "additionalProperties": False,
        "required": list(DRAFT_FIELDS),
        "properties": {name: ANSWER["properties"][name] for name in DRAFT_FIELDS},
        "$defs": {name: ANSWER["$defs"][name] for name in blocks},
    }


DRAFT = _draft()
_answer_validator = jsonschema_rs.Draft202012Validator(ANSWER)
_draft_validator = jsonschema_rs.Draft202012Validator(DRAFT)


class InvalidAnswer(Exception):
    """An answer that this process put together does not satisfy the schema: a fault of ours, named by its path."""


def answer_check(answer: dict[str, Any]) -> None:
    """Raises InvalidAnswer with the path of the first fault, never its text."""
    if not _answer_validator.is_valid(answer):
        error = next(iter(_answer_validator.iter_errors(answer)))
        raise InvalidAnswer("/" + "/".join(str(step) for step in error.instance_path))


def draft_fault(draft: Any) -> str | None:
    """None for a valid draft, else the JSON pointer of the first fault."""
    if _draft_validator.is_valid(draft):
        return None
    error = next(iter(_draft_validator.iter_errors(draft)))
    return "/" + "/".join(str(step) for step in error.instance_path)


@lru_cache(maxsize=1)
def wire_schema() -> dict[str, Any]:
    wire: dict[str, Any] = _without_bounds(DRAFT)
    return wire


def _without_bounds(node: Any, *, names: bool = False) -> Any:
    """`names` marks a mapping whose keys are property names, of which none is a keyword."""
    if isinstance(node, dict):
        return {
            key: _without_bounds(value, names=not names and key in ("properties", "$defs"))
            for key, value in node.items()
            if names or key not in NOT_ON_THE_WIRE
        }
    return [_without_bounds(item) for item in node] if isinstance(node, list) else node
