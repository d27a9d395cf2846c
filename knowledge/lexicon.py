"""The trade's words: everyday names for things, aspects, places, filler. The lists are data, in `data/`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from knowledge.normalise import stem, words

DATA = Path(__file__).resolve().parent / "data"
PhraseTable = dict[str, list[tuple[tuple[str, ...], str]]]


@dataclass(frozen=True, slots=True)
class Lexicon:
    things: PhraseTable
    aspects: PhraseTable
    places: PhraseTable
    fillers: frozenset[str]
    """As words and as stems."""
    filler_words: frozenset[str]
    english: frozenset[str]
    misspellings: Mapping[str, str]
    thesaurus_words: frozenset[str]


def _table(entries: Mapping[str, Sequence[str]]) -> PhraseTable:
    """Phrases by their first stem, longest first."""
    table: PhraseTable = {}
    for name, phrases in entries.items():
        for phrase in phrases:
            stems = tuple(stem(word) for word in words(phrase))
            if stems and (stems, name) not in table.setdefault(stems[0], []):
                table[stems[0]].append((stems, name))
    for found in table.values():
        found.sort(key=lambda entry: -len(entry[0]))
    return table


def phrases_match(stems: Sequence[str], table: PhraseTable) -> list[tuple[int, int, str]]:
    """`(start, end, name)` of the phrases of the table in a row of stems: leftmost, longest, not overlapping."""
    found: list[tuple[int, int, str]] = []
    position = 0
    while position < len(stems):
        for phrase, name in table.get(stems[position], ()):
            if found and found[-1][0] == position and len(phrase) < found[-1][1] - position:
                break
            if tuple(stems[position : position + len(phrase)]) == phrase:
                # A phrase may have several names: a "rail" is a handrail or a barrier.
                found.append((position, position + len(phrase), name))
        position = found[-1][1] if found and found[-1][0] == position else position + 1
    return found


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    thesaurus: dict[str, list[str]] = json.loads((DATA / "thesaurus.json").read_text("utf-8"))
    aspects: dict[str, list[str]] = json.loads((DATA / "aspects.json").read_text("utf-8"))
    places: dict[str, list[str]] = json.loads((DATA / "places.json").read_text("utf-8"))
    fillers = (DATA / "fillers.txt").read_text("utf-8").split()
    english = (DATA / "english.txt").read_text("utf-8").split()
    phrases = [phrase for table in (thesaurus, aspects) for group in table.values() for phrase in group]
    place_words = {word for group in places.values() for phrase in group for word in words(phrase)}
    return Lexicon(
        things=_table(thesaurus),
        aspects=_table(aspects),
        places=_table(places),
        fillers=frozenset(stem(word.replace("'", "")) for word in fillers) | frozenset(fillers),
        filler_words=frozenset(fillers),
        english=frozenset(english) | place_words,
        misspellings=json.loads((DATA / "misspellings.json").read_text("utf-8")),
        thesaurus_words=frozenset(word for phrase in phrases for word in words(phrase) if word.isalpha()),
    )
