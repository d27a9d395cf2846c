"""Bounds on a reply before anything reads it closely; the parser and the scanner keep to DEPTH_LIMIT as they go."""

import re
from itertools import accumulate

RAW_LIMIT_BYTES = 256 * 1024
DEPTH_LIMIT = 24

_SURROGATE = re.compile("[\ud800-\udfff]")


def bounded(raw: str) -> str:
    """The part of `raw` that fits RAW_LIMIT_BYTES of UTF-8, cut between characters."""
    if len(raw) * 4 <= RAW_LIMIT_BYTES or (raw.isascii() and len(raw) <= RAW_LIMIT_BYTES):
        return raw
    encoded = raw[:RAW_LIMIT_BYTES].encode("utf-8", "surrogatepass")
    if len(encoded) <= RAW_LIMIT_BYTES:
        return raw[:RAW_LIMIT_BYTES]
    return encoded[:RAW_LIMIT_BYTES].decode("utf-8", "ignore") if not _SURROGATE.search(raw) else _cut(raw)


def _cut(raw: str) -> str:
    sizes = accumulate(len(character.encode("utf-8", "surrogatepass")) for character in raw)
    return raw[: next(index for index, size in enumerate(sizes) if size > RAW_LIMIT_BYTES)]


def sound(text: str) -> str:
    """`text` with unpaired surrogates replaced, which no encoding can carry to the client."""
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
