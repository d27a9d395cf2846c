"""How a text becomes words: folding, units, stems. Everything here is the same for questions and for passages."""

import re
import unicodedata
from functools import lru_cache

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u2264\u2265", " "),
        "\u2014": " - ",
        "\u00d7": "x",
        "\u2026": " ... ",
    }
)

_SPELLINGS = {
    "mm": "mil mils millimetre millimetres millimeter millimeters",
    "cm": "centimetre centimetres centimeters",
    "m": "metre metres meter meters mtr mtrs",
    "m2": "sqm",
    "mm2": "sqmm",
    "min": "minute minutes",
    "h": "hour hours",
    "stars": "star",
    "%": "percent",
    "deg": "degrees",
    "m3": "", "kg": "", "kpa": "", "mpa": "", "kw": "", "kn": "", "lux": "", "l/s": "", "db": "",
}  # fmt: skip
_UNITS = {spelt: unit for unit, others in _SPELLINGS.items() for spelt in (unit, *others.split())}
FRL = "frl"
_UNIT = "|".join(sorted((re.escape(unit) for unit in _UNITS), key=len, reverse=True))
_SQUARE = re.compile(r"\b(?:square|sq\.?)\s?(?:metres?|meters?|m)\b")
_CUBIC = re.compile(r"\b(?:cubic|cu\.?)\s?(?:metres?|meters?|m)\b")
_QUANTITY = re.compile(rf"(?<![\w.])(\d{{1,3}}(?:,\d{{3}})+|\d+)(\.\d+)?\s?-?({_UNIT})(?![a-z0-9/])")
_LOWER_WORDS = "under|below|less than|not more than|no more than|up to|lower than|shorter than|within"
_UPPER_WORDS = "over|above|more than|exceeds?|exceeding|greater than|higher than|taller than|beyond"
_BOUND = re.compile(rf"\b({_LOWER_WORDS}|{_UPPER_WORDS})\s+(?:a |an |about |just )?(\d[\d.]*(?:mm|m2|m|kw))\b")
_LOWER = frozenset(_LOWER_WORDS.split("|"))
_RATIO = re.compile(r"(?<![\w.:])1\s?(?:in|:|/|to)\s?(\d{1,4})(?![\d/])")
_CLASS = re.compile(
    r"(?<![a-z])c+l+as+(?:e?s)?\s?-?(\d{1,2}[a-c]?)(?![\d.])((?:\s?(?:,|/|&|-|and|or|to|through)\s?(?:class(?:es)?\s)?\d{1,2}[a-c]?(?![\w.]))*)"
)
_MEMBER = re.compile(r"(-|to|through|,|/|&|and|or)\s?(?:class(?:es)?\s)?(\d{1,2}[a-c]?)")
# "Type A", "Region C", "BAL-29", "Level 2": the letter or number is what tells one from the other.
_LETTERED = re.compile(
    r"(?<![a-z])(type|region|bal|zone|volume|spec|part|grade)[\s-]{1,2}(fz|low|one|two|three|four|five|six|[a-d](?![\w/-])|\d{1,2}(?:\.\d)?(?![\w.:]))"
)
# A fire-resistance level: three periods in minutes, or dashes.
_FRL = re.compile(r"(?<![\w/])(?:\d{2,3}|-)/(?:\d{2,3}|-)/(?:\d{2,3}|-)(?![\w/])")
_WORD = re.compile(r"[a-z]*\d[\w:./%]*[\w%]|[a-z]*\d|[a-z]+(?:'[a-z]+)?")
_SENTENCE = re.compile(r"(?<=[.!?;\n])\s+|\n+|\s-\s")


def fold(text: str) -> str:
    """Lower case without accents or macrons, typographic signs made plain."""
    # Only the signs that stand above a letter go: "m\u00b2" must become "m2", and "\u0101" must become "a".
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).lower()


def sentences(folded: str) -> list[str]:
    return [part for part in (piece.strip() for piece in _SENTENCE.split(folded)) if part]


def words(folded: str) -> list[str]:
    """Words and figures; a figure carries its unit ("865mm"), a slope is "1:14", a building class is "class7b"."""
    folded = _FRL.sub(lambda match: f" {FRL} {match[0].replace('/', 'x').replace('-', '0')} ", folded)
    text = _SQUARE.sub("m2", _CUBIC.sub("m3", folded))
    text = re.sub(r"(?<![a-z])([rukz])[\s-](value|factor)", r"\1\2", text)
    text = _RATIO.sub(r" 1:\1 ", text)
    text = _CLASS.sub(_classes, text)
    text = _LETTERED.sub(r"\1\2 ", text)
    text = " ".join(_QUANTITY.sub(_quantity, text).split())
    text = _BOUND.sub(lambda match: f"{match[0]} {'under' if match[1] in _LOWER else 'over'}{match[2]} ", text)
    found = []
    for word in _WORD.findall(text.replace("-", " ")):
        bare = word[:-2] if word.endswith("'s") else word.replace("'", "")
        if bare:
            found.append(bare)
    return found


def _quantity(match: re.Match[str]) -> str:
    whole, decimals, unit = match.groups()
    fraction = (decimals or "").rstrip("0").rstrip(".")
    return f" {whole.replace(',', '')}{fraction}{_UNITS[unit]} "


def _classes(match: re.Match[str]) -> str:
    members = [match.group(1)]
    for joint, member in _MEMBER.findall(match.group(2) or ""):
        if joint in {"-", "to", "through"} and members[-1].isdigit() and member.isdigit():
            members.extend(str(number) for number in range(int(members[-1]) + 1, min(int(member), 12)))
        members.append(member)
    return " " + " ".join(f"class{member}" for member in members) + " "


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A light stem: plural, -ing, -ed, -ly and a final e go. A wrong stem does no harm where both sides share it."""
    if len(word) <= 3 or not word.isalpha():
        return word
    word = word.replace("iz", "is") if word.endswith(("ize", "izes", "ized", "izing", "ization")) else word
    word = word.replace("isation", "ise") if word.endswith("isation") else word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and set(word[: -len(ending)]) & set("aeiouy"):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    return word
