"""What a question, or a phrase of a note, is about: a bag of weighted features, and the named things in it.

Features by their first sign: `=barrier` a thing of the thesaurus, `@height` an aspect, `^NSW` a place, `#865mm` a
figure, `!class2` a building class, `$D3D22` a reference, and plain stems.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from knowledge.lexicon import Lexicon, phrases_match
from knowledge.normalise import fold, sentences, stem, words
from knowledge.references import Named, references_find
from knowledge.spelling import Speller

BACKGROUND = 0.3
SHORT = 90
BUILDINGS = frozenset({
    "house", "apartment", "highrise", "class3", "class4", "class5", "class6", "class7a", "class7b", "class8", "class9a",
    "class9b", "class9c", "school", "builder", "neighbourunit", "child", "ncc", "street", "standard",
})  # fmt: skip
"""Things that tell where or by whom, and seldom what is asked about."""
_ASKS = re.compile(
    r"\?|^(?:(?:and|but|so|ok|mate|hey|hi|please|also) )*"
    r"(?:what|which|when|where|who|whom|how|why|wot|wat|wen|wich|is|are|do|does|can|could|may|might|must|should|shall"
    r"|will|would|need|tell|explain|define|name|list|confirm)\b"
    r"|\b(?:(?:need|want|like) to know|tell me|wondering|is (?:it|this|that) (?:ok|legal|allowed|right|enough))\b"
)
# Where the thing asked for stands: after the question word, or after "maximum" and the like.
_POINTS = frozenset(
    {"how", "what", "which", "who", "when", "where", "whats", "maximum", "minimum", "max", "min", "why"}
)
_REACH = 4
_FIGURE = re.compile(r"\d")
_CLASS = re.compile(r"class\d{1,2}[a-c]?$")


@dataclass(slots=True)
class Reading:
    features: dict[str, float] = field(default_factory=dict)
    content: dict[str, float] = field(default_factory=dict)
    """Stems of content words (no filler, no figures) and how much each belongs to what is asked, 0..1."""
    unknown: set[str] = field(default_factory=set)
    """Stems of words that neither the knowledge base nor the list of English words has."""
    aspects: set[str] = field(default_factory=set)
    things: set[str] = field(default_factory=set)
    covers: dict[str, set[str]] = field(default_factory=dict)
    """Content stem -> the things and aspects whose phrase it is part of."""
    target: set[str] = field(default_factory=set)
    """The aspects asked for: those named right after a question word or after "maximum" and "minimum"."""
    target_words: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    place_names: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    figures: set[str] = field(default_factory=set)
    references: list[Named] = field(default_factory=list)
    text: str = ""
    """Folded and corrected, for comparison by character."""
    words: str = ""
    """Every word, folded and corrected."""
    corrected: int = 0
    asks: bool = False

    def references_keys(self) -> set[str]:
        return {named.key for named in self.references}


class Reader:
    def __init__(self, lexicon: Lexicon, speller: Speller | None) -> None:
        self._lexicon = lexicon
        self._speller = speller

    def read(self, text: str) -> Reading:
        folded = fold(text)
        reading = Reading()
        pieces = sentences(folded)
        asking = [bool(_ASKS.search(piece)) for piece in pieces]
        reading.asks = any(asking)
        # Without a sentence that asks, all of it is the question; short texts have no background worth the name.
        everything = not any(asking) or len(folded) < SHORT
        if not everything:
            asking = self._with_subject(pieces, asking)
        every: list[str] = []
        for piece, asks in zip(pieces, asking, strict=True):
            self._read_piece(piece, 1.0 if asks or everything else BACKGROUND, reading, every)
        reading.words = " ".join(every)
        reading.text = " ".join(word for word in every if word not in self._lexicon.fillers)
        return reading

    def _with_subject(self, pieces: list[str], asking: list[bool]) -> list[bool]:
        """ "Is that legal?" asks about the sentence before: the nearest that names a thing belongs to the question."""
        named = [self._names_thing(piece) for piece in pieces]
        if any(asks and names for asks, names in zip(asking, named, strict=True)):
            return asking
        last = max(index for index, asks in enumerate(asking) if asks)
        earlier = [index for index in range(last) if named[index]]
        later = [index for index in range(last + 1, len(pieces)) if named[index]]
        nearest = earlier[-1:] or later[:1]
        return [asks or index in nearest for index, asks in enumerate(asking)]

    def _names_thing(self, piece: str) -> bool:
        stems = [stem(word) for word in words(piece)]
        return any(name not in BUILDINGS for _, _, name in phrases_match(stems, self._lexicon.things))

    def _read_piece(self, piece: str, weight: float, reading: Reading, every: list[str]) -> None:
        piece = self._take_references(piece, weight, reading)
        spelt = self._spell(words(piece), reading)
        stems = [stem(word) for word in spelt]
        every.extend(spelt)
        covered: dict[int, set[str]] = {}
        for sign, table, names in (
            ("=", self._lexicon.things, reading.things),
            ("@", self._lexicon.aspects, reading.aspects),
            ("^", self._lexicon.places, reading.places),
        ):
            for start, end, name in phrases_match(stems, table):
                if name in {"ACT", "XX"} and (weight < 1 or stems[start:end] == ["act"]):
                    # "Act as ..."; and where somebody comes from is not where the building stands.
                    continue
                if sign != "@" or weight >= 1:
                    names.add(name)
                _raise(reading.features, sign + name, weight * (0.7 if sign == "@" else 0.5 if sign == "^" else 1.0))
                for index in range(start, end):
                    covered.setdefault(index, set()).add(sign + name)
                if sign == "^":
                    reading.place_names.add(" ".join(stems[start:end]))
        near = {index + step for index, word in enumerate(spelt) if word in _POINTS for step in range(_REACH + 1)}
        for index, bare in enumerate(stems):
            if index in near and weight >= 1:
                reading.target.update(sign[1:] for sign in covered.get(index, ()) if sign[0] == "@")
                if bare not in self._lexicon.fillers and bare.isalpha():
                    reading.target_words.add(bare)
            self._take_word(bare, spelt[index], weight, covered.get(index, set()), reading)

    def _take_references(self, piece: str, weight: float, reading: Reading) -> str:
        for named in references_find(piece, folded=True):
            reading.references.append(named)
            _raise(reading.features, "$" + named.key, 2.0 * weight)
            if named.year:
                _raise(reading.features, "#" + named.year, weight)
            if named.kind not in {"part", "nz"}:
                piece = piece[: named.start] + " " * (named.end - named.start) + piece[named.end :]
        return piece

    def _spell(self, typed: Iterable[str], reading: Reading) -> list[str]:
        spelt: list[str] = []
        for word in typed:
            correction = self._speller.correct(word) if self._speller else word
            if correction is None:
                reading.unknown.add(stem(word))
                spelt.append(word)
                continue
            reading.corrected += correction != word
            spelt.extend(correction.split())
        return spelt

    def _take_word(self, bare: str, word: str, weight: float, covered: set[str], reading: Reading) -> None:
        if _CLASS.match(word):
            reading.classes.add(word)
            _raise(reading.features, "!" + word, weight)
        elif _FIGURE.search(word):
            reading.figures.add(word)
            _raise(reading.features, "#" + word, 0.6 * weight)
        elif not any(name[0] == "^" for name in covered) and (
            bare not in self._lexicon.fillers or any(name[0] == "=" for name in covered)
        ):
            _raise(reading.features, bare, weight * (0.4 if covered else 1.0))
            if bare not in self._lexicon.fillers and len(bare) > 1:
                _raise(reading.content, bare, weight)
                reading.covers.setdefault(bare, set()).update(covered)


def _raise(weights: dict[str, float], name: str, value: float) -> None:
    if weights.get(name, 0.0) < value:
        weights[name] = value
