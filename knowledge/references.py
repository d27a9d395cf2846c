"""Clauses, standards and specifications named in a text, and whether the knowledge base holds them.

Forms read: NCC 2022 (`D3D14`, `S41C6`, with sub-paragraphs), NCC 2019 (`D2.13`, `FP4.1`, `BS5.1.6`), ABCB Housing
Provisions (`11.3.5`, `3.9.1.2`), `Part`, `Specification`, `Table` and `Figure` with any of these, Australian and New
Zealand standards (`AS/NZS 3500.3:2021`), New Zealand acceptable solutions (`F4/AS1`) and Building Code clauses.

Every pattern is bounded and anchored on a literal, so that one pass over the text is linear.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypedDict


class Mark(TypedDict):
    text: str
    known: bool


@dataclass(frozen=True, slots=True)
class Named:
    """One reference as written, its kind, and the key by which two ways of writing it are the same."""

    text: str
    kind: str
    key: str
    start: int
    end: int
    year: str = ""


_SUBPARTS = r"(?:\s?\((?:\d{1,2}|[a-z]{1,3}|[ivx]{1,4})\)){0,4}"
_NEW = r"(?:[A-Z]\d{1,2}[GOFPDVC]\d{1,3})"
_OLD = r"(?:[A-J](?:[PVS])?\d{1,2}\.\d{1,2}(?:\.\d{1,2}){0,2}[a-z]?)"
_DOTTED = r"(?:\d{1,2}(?:\.\d{1,2}){1,3}[a-z]?)"
_CODE = rf"(?:{_NEW}|{_OLD}|{_DOTTED})"

_PATTERN = re.compile(
    rf"""(?<![\w./-])(?:
        (?P<solution>[A-H]\d{{1,2}}/(?:AS|VM)\d{{1,2}})
      | (?P<standard>(?:AS\s?/\s?NZS|NZS|AS|BS\s?EN|BS|EN|ISO|ASTM\s?[A-Z]|DIN|NFPA|ASHRAE|UL)
            (?:\s?(?:ISO|IEC))?[\s-]?\d{{2,5}}(?:\.\d{{1,3}}){{0,2}})(?:\s?[:-]\s?(?P<year>(?:19|20)\d{{2}}))?
      | (?P<specification>Spec(?:ification)?s?\.?\s{{0,2}}(?:\d{{1,3}}(?!\.?\d)|[A-J]\d\.\d{{1,2}}[a-z]?))
      | (?P<part>Parts?\s{{1,2}}(?:[A-Z]\d{{1,2}}(?![\w.])|\d{{1,2}}\.\d{{1,2}}(?![\w.])))
      | (?P<table>(?:Tables?|Figures?|Fig\.?)\s{{1,2}}{_CODE}){_SUBPARTS}
      | (?P<nz>(?:NZBC|Building\s{{1,2}}Code|clauses?)\s{{1,2}}(?:clauses?\s{{1,2}})?[A-Z]\d{{1,2}}(?![\w/])
            (?!\.\d))
      | (?P<new>{_NEW}){_SUBPARTS}
      | (?P<old>{_OLD}){_SUBPARTS}
      | (?P<dotted>{_DOTTED}){_SUBPARTS}
    )(?![A-Za-z0-9])""",
    re.VERBOSE,
)
_FOLDED = re.compile(_PATTERN.pattern, re.VERBOSE | re.IGNORECASE)

# "Specifications 17 and 18", "Tables 7.4.4a/7.4.4b": the second and later members of a list take the kind of the first.
_MORE = re.compile(
    rf"\s{{0,2}}(?:,|/|and|or|&|to|-|\u2013)\s{{0,2}}(?:and\s|or\s)?(?P<code>{_NEW}|{_OLD}|{_DOTTED}|\d{{1,2}}(?![\w.%:]))"
)
# What shows that a dotted number is a clause and not a version, a date or a measure.
_CLAUSE_BEFORE = re.compile(
    r"\b(?:clauses?|cl\.?|cls\.?|sections?|sec\.?|s\.?|parts?|provisions?|standard(?: 2022)?|HP|NCC|BCA|paragraph|item"
    r"|2019:)"
    r"[\s(]{0,2}(?:[\d.,\s\-\u2013]|and|to){0,24}$",
    re.IGNORECASE,
)
_MEASURE_AFTER = re.compile(
    r"\s?(?:%|mm|cm|m\b|m2|m3|kw|kn|kpa|mpa|kg|l/s|lux|times|x\b|degrees|million|stars?|db|v\b|am\b|pm\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d{2,5}(?:\.\d{1,3}){0,2}")
_CODE_ONLY = re.compile(_CODE, re.IGNORECASE)


def references_find(text: str, *, folded: bool = False) -> Iterator[Named]:
    """References in order. `folded` also takes lower case, as people type it ("as/nzs 3500.3", "d3d14")."""
    pattern = _FOLDED if folded else _PATTERN
    position = 0
    while match := pattern.search(text, position):
        position = match.end()
        named = _named(match, text, folded)
        if named is None:
            continue
        yield named
        if named.kind in {"specification", "table", "part"}:
            for more in _rest_of_list(named, text):
                yield more
                position = more.end


def _named(match: re.Match[str], text: str, folded: bool) -> Named | None:
    kind = match.lastgroup or ""
    if kind == "year":
        kind = "standard"
    body = match.group(kind)
    if kind == "dotted" and not _is_clause_number(match, text):
        return None
    if folded and kind == "standard" and re.match(r"as[\s-]?\d{2,5}$", body):
        # "as 1000 people": lower case without a part number is the word "as" unless the number is a known standard,
        # which only the caller can tell.
        kind = "maybe"
    if kind == "standard" and not re.search(r"\d{3}|EN|ISO", body, re.IGNORECASE):
        return None
    whole = text[match.start() : match.end()].strip()
    return Named(whole, kind, _key(kind, body), match.start(), match.end(), match.group("year") or "")


def _is_clause_number(match: re.Match[str], text: str) -> bool:
    number = match.group("dotted")
    if _MEASURE_AFTER.match(text, match.end()):
        return False
    before = text[max(0, match.start() - 48) : match.start()]
    if _CLAUSE_BEFORE.search(before):
        return True
    # Three parts may still be a version number: whoever uses it takes it only when it is known.
    return number.count(".") >= 2


def _rest_of_list(first: Named, text: str) -> Iterator[Named]:
    position = first.end
    for _ in range(8):
        match = _MORE.match(text, position)
        if match is None:
            return
        code = match.group("code")
        if first.kind == "specification" and not code.isdigit():
            return
        if first.kind != "specification" and code.isdigit():
            return
        position = match.end()
        yield Named(code, first.kind, _key(first.kind, code), match.start("code"), position)


def _key(kind: str, body: str) -> str:
    upper = " ".join(body.upper().split())
    if kind in {"standard", "maybe"}:
        number = _NUMBER.search(upper)
        foreign = re.match(r"BS|EN|ISO|ASTM|DIN|NFPA|ASHRAE|UL", upper)
        return f"{foreign.group() if foreign else 'AS'} {number.group() if number else upper}"
    if kind == "specification":
        return "SPEC " + upper.split()[-1].removeprefix("SPECIFICATION").removeprefix("SPEC").lstrip("S.")
    if kind in {"part", "nz"}:
        return f"{kind.upper()} {upper.split()[-1]}"
    if kind == "table":
        found = _CODE_ONLY.search(upper)
        return f"TABLE {found.group() if found else upper}"
    return upper


@dataclass(slots=True)
class KnownReferences:
    """The references that the knowledge base holds, by key."""

    keys: set[str] = field(default_factory=set)
    years: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, texts: Iterable[str]) -> "KnownReferences":
        known = cls()
        for text in texts:
            for named in references_find(text):
                known.add(named)
        return known

    def add(self, named: Named) -> None:
        self.keys.add(named.key)
        if named.year:
            self.years.setdefault(named.key, set()).add(named.year)
        if named.kind == "table":
            self.keys.add(named.key.removeprefix("TABLE ").rstrip("ABCDEFGH") if "." in named.key else named.key[6:])
        base = named.key.rsplit(" ", 1)[-1]
        if named.kind == "new" and (stem := re.match(r"([A-JS]\d{1,2})[A-Z]\d", base)):
            self.keys.add(f"PART {stem.group(1)}")
            if stem.group(1)[0] == "S":
                self.keys.add(f"SPEC {stem.group(1)[1:]}")
        elif named.kind == "solution":
            self.keys.add(f"NZ {base.split('/')[0]}")
        elif named.kind == "old" and re.match(r"[A-H]\d+\.\d+\.\d", base):
            self.keys.add(f"NZ {base.split('.')[0]}")
        elif named.kind == "dotted":
            self.keys.add("PART " + ".".join(base.split(".")[:2]))
        elif named.kind == "standard":
            # The family: AS 1428 is known when AS 1428.1 is, but not the other way round.
            self.keys.add(named.key.split(".")[0])

    def holds(self, named: Named) -> bool:
        """Whether this very thing is in the knowledge base; an edition by year only if that year is named there."""
        return self.holds_base(named) and not (
            named.year and named.key in self.years and named.year not in self.years[named.key]
        )

    def holds_base(self, named: Named) -> bool:
        if named.key in self.keys:
            return True
        if named.kind == "maybe":
            return False
        if named.kind == "table":
            return named.key.removeprefix("TABLE ") in self.keys
        if named.kind == "nz":
            return f"NZ {named.key.removeprefix('NZ ')}" in self.keys
        if named.kind in {"old", "dotted"}:
            return named.key.rstrip("ABCDEFGH") in self.keys or f"PART {named.key}" in self.keys
        return False


def marks(text: str, known: KnownReferences) -> list[Mark]:
    """Each reference once, in order of first mention."""
    found: dict[str, Mark] = {}
    for named in references_find(text):
        holds = known.holds(named)
        if named.kind == "maybe" or (named.kind == "dotted" and not holds and not _named_as_clause(named, text)):
            continue
        found.setdefault(f"{named.key}:{named.year}", {"text": named.text, "known": holds})
    return list(found.values())


def _named_as_clause(named: Named, text: str) -> bool:
    return _CLAUSE_BEFORE.search(text[max(0, named.start - 48) : named.start]) is not None


def references_mark(text: str) -> list[Mark]:
    """`[{"text": ..., "known": bool}]`: every clause, standard and specification named, each once, in order."""
    # index.py reads references as well, so it can only be imported here.
    from knowledge.index import snapshot_current

    return marks(text, snapshot_current().references)
