"""Spelling correction towards the words of the knowledge base.

A word is only touched when nobody would write it: not in the vocabulary, not in the list of English words, not a
figure. "Hoist" must stay "hoist" even where "joist" is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import log

from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

from knowledge.lexicon import Lexicon

SHORTEST = 4
CLOSED = ("volume", "type", "region")
"""Members of closed sets, as `words` writes them: "volumefive" is no slip for "volumeone"."""


class Speller:
    def __init__(self, lexicon: Lexicon, written: Mapping[str, int], asked: Mapping[str, int]) -> None:
        """Counts of the words that the notes write, and of those in the questions they list, where there are slips."""
        self._lexicon = lexicon
        self._counts = Counter(written) + Counter(asked)
        own = {word for word in written if word.isalpha()}
        self._known = own | lexicon.thesaurus_words | lexicon.filler_words
        self._known |= {
            word
            for word, count in asked.items()
            if count >= 3 and word.isalpha() and (word in lexicon.english or not self._has_likelier(word))
        }
        self._choices = sorted(word for word in self._known if len(word) >= SHORTEST)
        self._memory: dict[str, str | None] = {}

    def _has_likelier(self, word: str) -> bool:
        allowed = 1 if len(word) <= 5 else 2
        near = process.extract(word, self._known, scorer=DamerauLevenshtein.distance, score_cutoff=allowed, limit=3)
        return len(word) >= SHORTEST and bool(near)

    def known(self, word: str) -> bool:
        return word in self._known or word in self._lexicon.english

    def correct(self, word: str) -> str | None:
        """The word meant: itself when known, a correction, or None when nothing is near enough."""
        if word in self._lexicon.misspellings:
            return self._lexicon.misspellings[word]
        if not word.isalpha() or self.known(word) or word.startswith(CLOSED):
            return word
        if len(word) < SHORTEST:
            return None
        if word not in self._memory:
            if len(self._memory) > 20_000:
                self._memory.clear()
            self._memory[word] = (
                self._sounds_like(word) or self._inflected(word) or self._nearest(word) or self._split(word)
            )
        return self._memory[word]

    def _sounds_like(self, word: str) -> str | None:
        """One letter off and the same to the ear; tried before inflection, or "shuter" would be a form of "shut"."""
        near = process.extract(word, self._choices, scorer=DamerauLevenshtein.distance, score_cutoff=1, limit=6)
        alike = [choice for choice, _, _ in near if choice[0] == word[0] and _skeleton(choice) == _skeleton(word)]
        return max(alike, key=lambda choice: self._counts[choice]) if alike else None

    def _inflected(self, word: str) -> str | None:
        for ending in ("s", "es", "ed", "ing", "er", "ers", "ly"):
            bare = word.removesuffix(ending)
            if bare != word and len(bare) >= SHORTEST and self.known(bare):
                return word
        return word if word.endswith("ed") and self.known(word[:-1]) else None

    def _nearest(self, word: str) -> str | None:
        allowed = 1 if len(word) <= 5 else 2 if len(word) <= 8 else 3
        candidates = process.extract(
            word, self._choices, scorer=DamerauLevenshtein.distance, score_cutoff=allowed, limit=12
        )
        best, best_score = None, -9.0
        for choice, distance, _ in candidates:
            score = -distance + 0.12 * log(1 + self._counts[choice])
            score += 0.45 if choice[0] == word[0] else 0.0
            score += 0.2 if choice[-1] == word[-1] else 0.0
            score += 0.3 if _skeleton(choice) == _skeleton(word) else 0.0
            # A distant candidate must at least sound alike, or begin alike and be long: "cladding" is no "landing".
            alike = choice[0] == word[0] or _skeleton(choice)[1:] == _skeleton(word)[1:]
            if score > best_score and alike:
                best, best_score = choice, score
        return best

    def _split(self, word: str) -> str | None:
        """Two words typed as one ("firedoor"): both known, neither tiny."""
        for cut in range(3, len(word) - 2):
            first, second = word[:cut], word[cut:]
            if min(len(first), len(second)) >= 3 and first in self._known and second in self._known:
                return f"{first} {second}"
        return None


def _skeleton(word: str) -> str:
    """First letter and consonants, doubled letters once: how a word sounds to somebody who cannot spell it."""
    bones = word[0]
    for letter in word[1:]:
        if letter not in "aeiouyh" and letter != bones[-1]:
            bones += letter
    return bones


def word_counts(texts: Iterable[Iterable[str]]) -> Counter[str]:
    return Counter(word for text in texts for word in text)
