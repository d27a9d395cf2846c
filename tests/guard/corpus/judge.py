"""Judges a repaired draft against a corpus item: valid, complete, nothing invented, no loss without a word.

Pure functions; knows nothing of how the repair was made. White space, neutralised invisible characters and "Markdown
table or cells" make no difference. A code of class L (lossy) or F (fallback) excuses a loss, never an invention.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.guard.corpus.draft import Draft, leaves
from tests.guard.corpus.draft import valid as schema_valid

Item = dict[str, Any]

# Bidi controls, zero-width characters, variation selectors, tags, soft hyphen, replacement character, controls.
INVISIBLE = re.compile(
    "[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufffd\u00ad\U000e0000-\U000e01ef\x00-\x08\x0e-\x1f\x7f]"
)
# How a renderer may show what it took out: ⟦U+202E⟧, <U+202E>, \u202e, or a control picture.
SHOWN = re.compile(r"[⟦\[<]U\+[0-9A-Fa-f]{4,6}[⟧\]>]|\\u(?:200[b-f]|202[a-e]|206[0-9a-f]|feff|00[01][0-9a-f])|[␀-␡]")
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "\u00a0": " ", "\x85": " "})
WORD = re.compile(r"\w+")
SHORT_WORDS = 20  # a leaf with more words than this may be found in up to three pieces
INK = 12  # characters from which on a leaf may be found without regard to white space
DEFAULT_LANGUAGES = {"", "text", "plain", "plaintext", "txt"}
EXCUSES = ("L", "F")


def norm(text: str) -> str:
    text = html.unescape(text)
    text = SHOWN.sub("", INVISIBLE.sub("", text)).translate(QUOTES)
    text = re.sub(r"<br\s*/?>", " ", text).replace("\\|", "|")
    return " ".join(unicodedata.normalize("NFC", text).split())


def ink(text: str) -> str:
    return text.replace(" ", "")


def wordy(character: str) -> bool:
    r"""What \w matches in a regular expression; "" is no character."""
    return character.isalnum() or character == "_"


def bare_escapes(text: str) -> str:
    return re.sub(r"\\(?=[_.'(&])", "", text)


@dataclass(frozen=True)
class Stream:
    """The result as one run of text, with and without its spaces."""

    text: str
    ink: str

    @classmethod
    def of(cls, parts: Iterable[str]) -> "Stream":
        text = norm("\n".join(parts))
        return cls(text, ink(text))

    def find(self, leaf: str, start: int = 0) -> tuple[int, int] | None:
        """Where the normalised leaf stands as whole words, from `start` on."""
        text = self.text
        at = text.find(leaf, start)
        while at >= 0:
            end = at + len(leaf)
            if not (wordy(leaf[:1]) and wordy(text[at - 1 : at])) and not (
                wordy(leaf[-1:]) and wordy(text[end : end + 1])
            ):
                return at, end
            at = text.find(leaf, at + 1)
        return None

    def holds(self, leaf: str) -> bool:
        if not leaf or self.find(leaf):
            return True
        if len(leaf) >= INK and ink(leaf) in self.ink:
            return True
        return len(leaf.split()) >= SHORT_WORDS and self.holds_pieces(leaf.split(), 3)

    def holds_pieces(self, words: list[str], pieces: int) -> bool:
        """The words in order, in at most so many runs: a title cut at its limit goes on elsewhere."""
        at = 0
        for _ in range(pieces):
            low, high = 0, len(words)
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self.find(" ".join(words[:middle]), at) else (low, middle - 1)
            if not low:
                return False
            found = self.find(" ".join(words[:low]), at)
            at, words = (found[1] if found else at), words[low:]
            if not words:
                return True
        return False


def valid(draft: object) -> bool:
    return schema_valid(draft)


def forgiving(item: Item) -> bool:
    """Whether a backslash before punctuation is noise here: `\\_` may be read as `_` or kept."""
    return any(name.startswith("bad_escape/") for name in item["fault"])


def stream_of(item: Item, draft: Draft) -> Stream:
    parts = leaves(draft)
    return Stream.of([bare_escapes(part) for part in parts] if forgiving(item) else parts)


def wanted(item: Item) -> list[str]:
    told = [norm(bare_escapes(leaf) if forgiving(item) else leaf) for leaf in item["must_survive"]]
    return [leaf for leaf in told if leaf]


def counted(texts: Iterable[str]) -> Counter[str]:
    """How often each word is there, and each leaf that is no word at all (a dash, an emoji)."""
    return Counter(word.casefold() for text in texts for word in WORD.findall(text) or [text])


def missing_leaves(item: Item, stream: Stream) -> list[str]:
    return [f"missing: {leaf[:120]}" for leaf in wanted(item) if not stream.holds(leaf) and not literal(leaf, stream)]


def literal(leaf: str, stream: Stream) -> bool:
    return (
        leaf.casefold() in {"true", "false", "none", "null", "nan"}
        and leaf.casefold() in stream.text.casefold().split()
    )


def missing_words(item: Item, stream: Stream) -> list[str]:
    """Words there less often than they should be: of two equal cells one was dropped."""
    short = counted(wanted(item))
    short.subtract(counted([stream.text]))
    joined = stream.ink.casefold()
    return [f"too few: {word}" for word, count in short.items() if count > 0 and fewer(word, item, joined)]


def fewer(word: str, item: Item, joined: str) -> bool:
    """A word split in two by a neutralised character still counts, if it is long enough to be recognised."""
    told = sum(ink(leaf).casefold().count(word) for leaf in wanted(item))
    return (len(word) < 3 and WORD.match(word) is not None) or joined.count(word) < told


def rows_of(block: dict[str, Any]) -> list[list[str]]:
    return [[norm(cell) for cell in row] for row in block["rows"]]


def disorder(item: Item, draft: Draft, stream: Stream) -> list[str]:
    """List items and table cells that are all there but not in their order."""
    answer = item["answer"]
    if answer is None:
        return []
    arrived = Counter(wanted(item))
    found: list[str] = []
    for told in (told for block in answer["blocks"] for told in sequences(block)):
        kept = taken(arrived, [norm(bare_escapes(leaf) if forgiving(item) else leaf) for leaf in told])
        if all(stream.holds(leaf) for leaf in kept) and not in_order(kept, stream):
            found.append(f"order: {' / '.join(kept)[:120]}")
    return found if item["cut"] else found + swapped(answer, draft)


def taken(arrived: Counter[str], told: list[str]) -> list[str]:
    """The leaves that arrived, each as often as it did."""
    kept = []
    for leaf in told:
        if leaf and arrived[leaf] > 0:
            arrived[leaf] -= 1
            kept.append(leaf)
    return kept


def sequences(block: dict[str, Any]) -> list[list[str]]:
    if block["type"] == "list":
        return [block["items"]]
    if block["type"] == "table":
        return [block["columns"], [cell for row in block["rows"] for cell in row]]
    return []


def in_order(told: list[str], stream: Stream) -> bool:
    at = 0
    for leaf in told:
        found = stream.find(leaf, at)
        if found is None:
            return len(leaf) >= INK  # found by ink only: its place is unknown, and it is there
        at = found[1]
    return True


def swapped(answer: Draft, draft: Draft) -> list[str]:
    """Tables of the same columns and size, compared cell by cell; a result may hold the same table once only."""
    tables = [block for block in draft["blocks"] if block["type"] == "table"]
    found: list[str] = []
    for block in answer["blocks"]:
        if block["type"] != "table":
            continue
        same = [other for other in tables if [norm(c) for c in other["columns"]] == [norm(c) for c in block["columns"]]]
        same = [other for other in same if len(other["rows"]) == len(block["rows"])]
        if same and all(
            Counter(flat(other)) == Counter(flat(block)) and rows_of(other) != rows_of(block) for other in same
        ):
            found.append(f"cells moved: {block['columns']}")
    return found


def flat(block: dict[str, Any]) -> list[str]:
    return [cell for row in rows_of(block) for cell in row]


def losses(item: Item, draft: Draft) -> list[str]:
    """What must survive and did not, in words a reader can look up."""
    stream = stream_of(item, draft)
    return missing_leaves(item, stream) + missing_words(item, stream) + disorder(item, draft, stream)


def complete(item: Item, draft: Draft) -> bool:
    return not losses(item, draft)


def exact(item: Item, draft: Draft) -> bool:
    """Equal to what was meant, up to white space at the ends of a text."""
    return item["answer"] is not None and trimmed(draft) == trimmed(item["answer"])


def trimmed(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.replace("\r\n", "\n").strip()
    if isinstance(tree, dict):
        return {key: trimmed(value) for key, value in tree.items()}
    return [trimmed(value) for value in tree] if isinstance(tree, list) else tree


ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(["\\/bfnrt]))')
SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unescaped(text: str) -> str:
    """JSON escapes read as far as they can be read; two halves of a surrogate pair are put together."""

    def char(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else SIMPLE.get(found[3], found[3])

    return ESCAPE.sub(char, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def readings(raw: str) -> list[str]:
    """The raw reply in every reading that a repair may fairly use."""
    texts = [raw, re.sub(r"\n+data: ?", "", raw), html.unescape(raw)]
    if '"delta"' in raw:
        texts.append("".join(unescaped(part) for part in re.findall(r'"content": "((?:[^"\\]|\\.)*)"', raw)))
    for depth in range(3):
        texts += [unescaped(text) for text in texts[-4 * (depth + 1) :]]
    texts += [text.replace("\\", "") for text in texts]
    return texts + [INVISIBLE.sub("", text) for text in texts] + [html.unescape(text) for text in texts]


def vocabulary(texts: Iterable[str]) -> set[str]:
    words: set[str] = set()
    for text in texts:
        words.update(WORD.findall(text.casefold()))
        words.update(WORD.findall(norm(text).casefold()))
    return words


def inventions(item: Item, draft: Draft, constants: Collection[str] = ()) -> list[str]:
    """Words of the result that stand neither in the reply nor in one of the product's own sentences."""
    known = vocabulary(dict.fromkeys(readings(item["raw"]))) | vocabulary(constants)
    found: list[str] = []
    languages = {block["language"] for block in draft["blocks"] if block["type"] == "code"} & DEFAULT_LANGUAGES
    for leaf in leaves(draft):
        if leaf in languages:
            continue
        words = WORD.findall(norm(leaf).casefold())
        found += [word for at, word in enumerate(words) if word not in known and not edge(word, at, len(words), known)]
    return found


def edge(word: str, at: int, count: int, known: set[str]) -> bool:
    """The first or last word of a text may be part of a word: an over-long text was divided there."""
    return (
        (at in (0, count - 1)) and count > 1 and any(other.startswith(word) or other.endswith(word) for other in known)
    )


def excused(codes_by_class: Mapping[str, Collection[str]]) -> bool:
    return any(codes_by_class.get(name) for name in EXCUSES)


def unflagged_loss(item: Item, draft: Draft, codes_by_class: Mapping[str, Collection[str]]) -> list[str]:
    """Losses nobody was told of. Of a reply cut short the part that never came must be told of, too."""
    if excused(codes_by_class):
        return []
    found = losses(item, draft)
    if item["cut"] and item["answer"] is not None:
        found += losses({**item, "must_survive": leaves(item["answer"]), "cut": False}, draft)
    return found


@dataclass(frozen=True)
class Verdict:
    item: Item
    valid: bool
    complete: bool
    exact: bool
    invented: tuple[str, ...]
    unflagged: tuple[str, ...]
    lost: tuple[str, ...]


def judged(
    item: Item,
    draft: object,
    codes_by_class: Mapping[str, Collection[str]] | None = None,
    constants: Collection[str] = (),
) -> Verdict:
    """`draft` is {"title", "summary", "blocks"}; anything that is not a valid draft counts as nothing at all."""
    if not valid(draft):
        return Verdict(item, False, False, False, (), (), ())
    assert isinstance(draft, dict)
    lost = losses(item, draft)
    silent = unflagged_loss(item, draft, codes_by_class or {})
    return Verdict(
        item, True, not lost, exact(item, draft), tuple(inventions(item, draft, constants)), tuple(silent), tuple(lost)
    )


HEAD = ("group", "n", "valid", "valid+complete", "exact/harmless", "unflagged", "invented")


def row(name: str, verdicts: list[Verdict]) -> tuple[str, ...]:
    harmless = [verdict for verdict in verdicts if verdict.item["harmless"]]
    return (
        name,
        str(len(verdicts)),
        percent(verdict.valid for verdict in verdicts),
        percent(verdict.valid and verdict.complete for verdict in verdicts),
        percent(verdict.exact for verdict in harmless),
        str(sum(bool(verdict.unflagged) for verdict in verdicts)),
        str(sum(bool(verdict.invented) for verdict in verdicts)),
    )


def percent(answers: Iterable[bool]) -> str:
    told = list(answers)
    return f"{100 * sum(told) / len(told):.1f}" if told else "–"


def table(results: Iterable[Verdict]) -> str:
    """One row a fault group, the malformed in all last; the unharmed answers stand apart."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in results:
        groups.setdefault(verdict.item["group"], []).append(verdict)
    malformed = [verdict for name, verdicts in groups.items() if name != "unharmed" for verdict in verdicts]
    lines = [HEAD, *(row(name, verdicts) for name, verdicts in groups.items()), row("ALL MALFORMED", malformed)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEAD))]
    return "\n".join(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
