"""The word ledger: nothing of the reply's words is lost, and nothing is added to them.

It reads the raw text on its own, without the parser's help, and so finds what a wrong reading dropped.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from chat.guard.safety import visible

_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[bfnrt]|\\[\"/']"
    r"|\\x[0-9a-fA-F]{2}|\\u\{[0-9a-fA-F]{1,6}\}|\\U000[0-9a-fA-F]{5}"
)
# Escapes that a repair may have taken for a letter behind a backslash, as in C:\new: the word then has one letter more.
_LETTERS = "nbfrtux"
EXCERPT = 60
EXCERPT_LIMIT = 40


def words(text: str) -> Counter[str]:
    # A form feed parts words, also when it is shown as a line's end.
    return Counter(_WORD.findall(visible(text.replace("\f", " "))[0].replace("\\_", "_")))


def spelled(raw: str, levels: int = 1) -> str:
    """`raw` with JSON's escapes decoded wherever they stand, `levels` times (texts encoded twice need two)."""
    for _ in range(levels):
        if "\\" not in raw:
            break
        raw = _ESCAPED.sub(_decoded, raw)
    return raw


def _decoded(found: re.Match[str]) -> str:
    escape = found[0]
    if escape[1] in "xU" or escape[2:3] == "{":
        point = int(escape[2:].strip("{}"), 16)
        return chr(point) if point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF else " "
    if escape[1] == "u":
        units = bytes.fromhex(escape[2:6] + escape[8:12])
        return units.decode("utf-16-be", "replace")
    return escape[1] if escape[1] in "\\\"/'" else " "


def lost(raw: str, shown: Iterable[str], accounted: Iterable[str], levels: int = 1) -> Counter[str]:
    """Words of `raw` that are neither in what is shown nor in what became structure or was flagged as left out."""
    there = words("\n".join(shown)) + words(spelled("\n".join(accounted), levels))
    missing = words(spelled(raw, levels)) - there
    return _forgiven(missing, there - words(spelled(raw, levels))) if missing else missing


def added(raw: str, shown: Iterable[str], constants: Sequence[str], levels: int = 1) -> set[str]:
    """Words of what is shown that stand neither in `raw`, in any spelling of it, nor in a fixed constant."""
    known = set(words(raw)) | set(words("\n".join(constants)))
    extra = set(words("\n".join(shown))) - known
    if extra:
        for level in range(1, levels + 1):
            extra -= set(words(spelled(raw, level)))
    if extra:
        extra -= {letter + word for word in words(spelled(raw, levels)) for letter in _LETTERS}
        extra -= {word[1:] for word in words(raw) if word[:1] in _LETTERS}
    return extra


def _forgiven(missing: Counter[str], surplus: Counter[str]) -> Counter[str]:
    """Without the words that are there with the letter of an escape in front, or without it."""
    for word in list(missing):
        for other in (*(letter + word for letter in _LETTERS), word[1:] if word[0] in _LETTERS else ""):
            paired = min(missing[word], surplus[other])
            missing[word] -= paired
            surplus[other] -= paired
    _join(missing, surplus)
    return +missing


def _join(missing: Counter[str], surplus: Counter[str]) -> None:
    """A word longer than a bound was cut in pieces: it is there when its pieces are."""
    for word in [word for word in missing if len(word) >= 200 and missing[word]]:
        rest = word
        while rest:
            piece = next((part for part in surplus if surplus[part] and rest.startswith(part)), None)
            if piece is None:
                break
            surplus[piece] -= 1
            rest = rest[len(piece) :]
        missing[word] -= 0 if rest else 1


def excerpts(raw: str, missing: Counter[str], levels: int = 1) -> list[str]:
    """The places of `raw` where the missing words stand, each with a little around it, as the model wrote them."""
    text = spelled(raw, levels)
    spans: list[list[int]] = []
    left = Counter(missing)
    for found in _WORD.finditer(text):
        if not left[found[0]]:
            continue
        left[found[0]] -= 1
        start, end = max(0, found.start() - EXCERPT), found.end() + EXCERPT
        if spans and start <= spans[-1][1]:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return [_whole_words(text, start, end) for start, end in spans]


def _whole_words(text: str, start: int, end: int) -> str:
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return text[start:end].strip()
