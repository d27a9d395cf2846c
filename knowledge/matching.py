"""How near a question comes to each note, as a row of numbers a linear model can weigh.

Nearest labelled phrase (what the note is asked as, and what it is known not to answer), how much of what is asked the
note's own words cover, and whether aspect, building, place and clause agree. Pure: no database, no Django.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log, sqrt

from knowledge.reading import Reader, Reading

TEXT_COUNT = 50
"""A word of the text counts as if it stood in this many phrases, so that leaving one phrase out never removes it."""
CANDIDATES = 8
NO_NOTE = -1
TOLD, SMOOTHING = 1.0, 2.0
COMMON_GRAM, UNSEEN_GRAM = 0.06, 6.0
LEAST_COSINE, LEAST_LETTERS = 0.08, 0.12


@dataclass(frozen=True, slots=True)
class Note:
    """What the matcher learns of a passage. Without its row's id: the same texts give the same matcher."""

    key: str
    title: str
    text: str
    reference: str
    jurisdiction: str
    clauses: tuple[str, ...]
    subjects: tuple[str, ...]
    aspects: tuple[str, ...]
    asked_as: tuple[str, ...]
    not_answered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    note: int
    positive: bool
    reading: Reading


@dataclass(slots=True)
class Profile:
    """What a note speaks of, counted over its phrases and its text."""

    words: Counter[str] = field(default_factory=Counter)
    things: Counter[str] = field(default_factory=Counter)
    aspects: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    """In how many of the phrases that the note answers a feature stands."""
    phrases: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    title: dict[str, float] = field(default_factory=dict)
    subjects: list[frozenset[str]] = field(default_factory=list)
    features: Counter[str] = field(default_factory=Counter)
    classes: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    figures: set[str] = field(default_factory=set)
    references: set[str] = field(default_factory=set)
    state: str = ""


@dataclass(slots=True)
class Near:
    """Similarities of one question to the phrases of one note."""

    positives: list[float] = field(default_factory=list)
    negative: float = 0.0
    letters: float = 0.0
    letters_negative: float = 0.0
    contained: float = 0.0
    refusals: list[tuple[float, float, int]] = field(default_factory=list)
    """Of phrases that belong to no note: cosine, letters and phrase number."""


class Matcher:
    def __init__(self, notes: Sequence[Note], reader: Reader, declined: Sequence[str] = ()) -> None:
        """`declined`: questions that no note answers, near to none in particular."""
        self.notes = notes
        self.reader = reader
        self.phrases = [
            Phrase(index, positive, reader.read(text))
            for index, note in enumerate(notes)
            for positive, texts in ((True, note.asked_as), (False, note.not_answered))
            for text in (*texts, note.title)[: len(texts) + positive]
        ]
        self.phrases += [Phrase(NO_NOTE, False, reader.read(text)) for text in declined]
        self.profiles = [Profile() for _ in notes]
        for index, note in enumerate(notes):
            self._profile_text(self.profiles[index], note)
        for phrase in self.phrases:
            if phrase.note != NO_NOTE:
                self._profile_phrase(self.profiles[phrase.note], phrase)
        self.idf = self._frequencies()
        self.told = frozenset(word for profile in self.profiles for word in profile.words)
        self.unseen = log(1 + len(notes) / 0.5)
        self._index()
        self._whole = {
            _bare(phrase.reading): (phrase.note, phrase.positive) for phrase in self.phrases if phrase.note != NO_NOTE
        }
        self.holders: dict[str, list[int]] = defaultdict(list)
        for index, profile in enumerate(self.profiles):
            for key in profile.references:
                self.holders[key].append(index)
        asked: Counter[str] = Counter()
        for profile in self.profiles:
            asked.update(profile.asked)
        whole = sum(profile.phrases for profile in self.profiles) or 1
        self.background = {name: (count + 0.5) / whole for name, count in asked.items()}
        self._distinct = [
            self._distinctive(phrase, self.profiles[phrase.note])
            if not phrase.positive and phrase.note != NO_NOTE
            else {}
            for phrase in self.phrases
        ]

    def _distinctive(self, phrase: Phrase, profile: Profile) -> dict[str, float]:
        """What sets a phrase apart from everything the note is known to say: the "timber" of a timber handrail."""
        return {
            name: weight
            for name, weight in self.weights(phrase.reading).items()
            if not profile.features[name] and name[0] not in "#"
        }

    def turned_down(self, reading: Reading, number: int, profile: Profile | None = None) -> float:
        """How much of what a declined phrase asks beyond the note is asked here too, 0..1."""
        distinct = self._distinct[number] if profile is None else self._distinctive(self.phrases[number], profile)
        whole = sum(distinct.values())
        if not whole:
            return 1.0
        return sum(weight for name, weight in distinct.items() if name in reading.features) / whole

    def _profile_text(self, profile: Profile, note: Note) -> None:
        for text in (note.title, note.text, note.reference, " . ".join(note.clauses), *note.subjects, *note.aspects):
            reading = self.reader.read(text)
            for stem in reading.content:
                profile.words[stem] += TEXT_COUNT
            for thing in reading.things:
                profile.things[thing] += TEXT_COUNT
            for aspect in reading.aspects:
                profile.aspects[aspect] += TEXT_COUNT
            for feature in reading.features:
                profile.features[feature] += TEXT_COUNT
            profile.classes |= reading.classes
            profile.places |= reading.place_names
            profile.figures |= reading.figures
            profile.references |= {named.key for named in reading.references}
        profile.title = self.reader.read(note.title).features
        for subject in note.subjects:
            reading = self.reader.read(subject)
            profile.subjects.append(frozenset("=" + thing for thing in reading.things) or frozenset(reading.content))
        for state in ("NSW", "VIC", "QLD", "NT", "NZ"):
            if note.jurisdiction.upper().startswith(state) or (
                state == "NZ" and "New Zealand" in note.jurisdiction[:12]
            ):
                profile.state = state

    def _profile_phrase(self, profile: Profile, phrase: Phrase) -> None:
        reading = phrase.reading
        if not phrase.positive:
            profile.refused.update(reading.content.keys())
            return
        profile.words.update(reading.content.keys())
        profile.things.update(reading.things)
        profile.aspects.update(reading.aspects)
        profile.targets.update(reading.target)
        profile.features.update(reading.features.keys())
        profile.asked.update(reading.features.keys())
        profile.phrases += 1

    def _frequencies(self) -> dict[str, float]:
        """Inverse document frequency, the documents being notes: fourteen phrasings of one rule are one witness."""
        seen: Counter[str] = Counter()
        for profile in self.profiles:
            seen.update(profile.features.keys() | profile.words.keys())
        refused: Counter[str] = Counter()
        for phrase in self.phrases:
            if not phrase.positive:
                refused.update(phrase.reading.features.keys())
        total = len(self.notes)
        return {name: log(1 + total / max(0.5, seen[name])) for name in seen.keys() | refused.keys()}

    def _index(self) -> None:
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._letters: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._norms: list[float] = []
        self._grams_seen = grams_seen = Counter[str]()
        rows = [_grams(phrase.reading.text) for phrase in self.phrases]
        for row in rows:
            grams_seen.update(row)
        # The commonest say little and cost most.
        common = max(20, COMMON_GRAM * len(rows))
        self._gram_idf = {gram: log(1 + len(rows) / count) for gram, count in grams_seen.items() if count <= common}
        for number, phrase in enumerate(self.phrases):
            weights = self.weights(phrase.reading)
            norm = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
            self._norms.append(norm)
            for name, weight in weights.items():
                self._postings[name].append((number, weight / norm))
            grams = [gram for gram in rows[number] if gram in self._gram_idf]
            gram_norm = sqrt(sum(self._gram_idf[gram] ** 2 for gram in grams)) or 1.0
            for gram in grams:
                self._letters[gram].append((number, self._gram_idf[gram] / gram_norm))

    def whole_phrase(self, reading: Reading) -> tuple[int, bool] | None:
        """The labelled phrase that this is, word for word, and whether its note answers it."""
        return self._whole.get(_bare(reading))

    def weights(self, reading: Reading) -> dict[str, float]:
        return {name: weight * self.idf.get(name, self.unseen) for name, weight in reading.features.items()}

    def nearest(self, reading: Reading, without: int = -1) -> tuple[list[float], list[float], float]:
        """Cosine to every phrase by features and by letters, and the norm of the question."""
        weights = self.weights(reading)
        norm = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        by_feature = [0.0] * len(self.phrases)
        for name, weight in weights.items():
            share = weight / norm
            for number, other in self._postings.get(name, ()):
                by_feature[number] += share * other
        by_letter = [0.0] * len(self.phrases)
        grams = [gram for gram in _grams(reading.text) if gram in self._gram_idf or gram not in self._grams_seen]
        gram_norm = sqrt(sum(self._gram_idf.get(gram, UNSEEN_GRAM) ** 2 for gram in grams)) or 1.0
        for gram in grams:
            if gram in self._gram_idf:
                share = self._gram_idf[gram] / gram_norm
                for number, other in self._letters[gram]:
                    by_letter[number] += share * other
        if without >= 0:
            by_feature[without] = by_letter[without] = 0.0
        return by_feature, by_letter, norm

    def near_notes(self, reading: Reading, without: int = -1) -> dict[int, Near]:
        by_feature, by_letter, norm = self.nearest(reading, without)
        found: dict[int, Near] = {}
        for number, (cosine, letters) in enumerate(zip(by_feature, by_letter, strict=True)):
            if cosine < LEAST_COSINE and letters < LEAST_LETTERS:
                continue
            phrase = self.phrases[number]
            near = found.get(phrase.note) or found.setdefault(phrase.note, Near())
            if phrase.note == NO_NOTE:
                near.refusals.append((cosine, letters, number))
            elif phrase.positive:
                near.positives.append(cosine)
                near.letters = max(near.letters, letters)
                near.contained = max(near.contained, min(1.0, cosine * norm / self._norms[number]))
            else:
                share = self.turned_down(reading, number)
                near.negative = max(near.negative, cosine * share)
                near.letters_negative = max(near.letters_negative, letters * share)
        for near in found.values():
            near.positives.sort(reverse=True)
            near.refusals = sorted(near.refusals, reverse=True)[:10]
        return found


def _bare(reading: Reading) -> tuple[str, tuple[str, ...]]:
    return reading.words, tuple(sorted(named.key for named in reading.references))


def _grams(text: str) -> set[str]:
    found: set[str] = set()
    for word in text.split():
        padded = f" {word} "
        found.update(padded[start : start + 3] for start in range(len(padded) - 2))
    return found


def profile_counts(profile: Profile, phrase: Phrase | None) -> "Left":
    return Left(profile, phrase)


class Left:
    """A profile with one phrase's contribution taken away, for leave-one-out fitting; the profile itself when None."""

    def __init__(self, profile: Profile, phrase: Phrase | None) -> None:
        self._profile = profile
        self._words = frozenset(phrase.reading.content) if phrase and phrase.positive else frozenset()
        self._refused = frozenset(phrase.reading.content) if phrase and not phrase.positive else frozenset()
        self._things = frozenset(phrase.reading.things) if phrase and phrase.positive else frozenset()
        self._aspects = frozenset(phrase.reading.aspects) if phrase and phrase.positive else frozenset()
        self._targets = frozenset(phrase.reading.target) if phrase and phrase.positive else frozenset()
        self._features = frozenset(phrase.reading.features) if phrase and phrase.positive else frozenset()

    def phrases(self) -> int:
        return self._profile.phrases - bool(self._features)

    def word(self, stem: str) -> int:
        return self._profile.words[stem] - (stem in self._words)

    def refused(self, stem: str) -> int:
        return self._profile.refused[stem] - (stem in self._refused)

    def thing(self, name: str) -> int:
        return self._profile.things[name] - (name in self._things)

    def aspect(self, name: str) -> int:
        return self._profile.aspects[name] - (name in self._aspects)

    def target(self, name: str) -> int:
        return self._profile.targets[name] - (name in self._targets)

    def likelihood(self, name: str, background: float) -> float:
        """Log ratio of a question to this note having the feature, to any question having it; smoothed by both."""
        count = self._profile.asked[name] - (name in self._features)
        told = TOLD if self._profile.features[name] >= TEXT_COUNT else 0.0
        share = (count + told + SMOOTHING * background) / (
            self._profile.phrases - bool(self._features) + TOLD + SMOOTHING
        )
        return log(share / background)

    def feature(self, name: str) -> int:
        return self._profile.features[name] - (name in self._features)


def top(scores: dict[int, float], limit: int) -> Iterable[int]:
    return sorted(scores, key=lambda index: -scores[index])[:limit]
