"""Canonical JSON of audit bodies: sorted keys, no white space, UTF-8, no floats (their text differs by language)."""

import json
from typing import Any

BODY_LIMIT = 60_000


class NotCanonical(ValueError):
    pass


def canonical_json(value: dict[str, Any]) -> bytes:
    """Raises NotCanonical for floats, non-string keys, unpaired surrogates, and bodies over 60 kB."""
    _check(value)
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        body = text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotCanonical("a text holds an unpaired surrogate") from None
    if len(body) > BODY_LIMIT:
        raise NotCanonical(f"the body has {len(body)} bytes; the limit is {BODY_LIMIT}")
    return body


def _check(value: Any) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotCanonical(f"the key {key!r} is not a string")
            _check(item)
    else:
        raise NotCanonical(f"a {type(value).__name__} has no canonical form; use integers (ms, basis points) or text")
