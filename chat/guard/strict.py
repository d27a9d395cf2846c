"""The strict parse: exactly one JSON draft that the schema accepts, or nothing."""

import json
import re
from typing import Any

from chat.guard.schema import draft_valid

_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Malformed(ValueError):
    pass


def strict_json(text: str) -> Any:
    """The value, without duplicate keys, NaN or unpaired surrogates; ValueError or RecursionError otherwise.

    Numbers are refused as well: no part of a draft is one.
    """
    value = _DECODER.decode(text)
    if "\\u" in text and _LONE_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def strict_object(text: str) -> Any:
    """As `strict_json` for a text that begins with a bracket and ends with one, which spares the look around it."""
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise _Malformed("more than one value")
    if "\\u" in text and _LONE_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def strict_parse(text: str) -> dict[str, Any] | None:
    """The draft when `text` is exactly one valid JSON draft; None otherwise."""
    try:
        draft = strict_json(text)
    except (ValueError, RecursionError):
        return None
    return draft if isinstance(draft, dict) and draft_valid(draft) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Malformed("duplicate key")
    return found


def _refused(lexeme: str) -> Any:
    raise _Malformed(lexeme[:20])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refused, parse_int=_refused, parse_float=_refused
)
