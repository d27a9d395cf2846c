"""Follow-ups: "and its minimum height?" asks about what was asked before."""

import re
from collections.abc import Sequence
from dataclasses import replace

from knowledge.features import COMMERCIAL, HOUSE, SHARED
from knowledge.normalise import fold, stem
from knowledge.reading import Reader, Reading

_OPENERS = re.compile(
    r"^\W*(?:(?:ok|okay|right|thanks|cheers|great|cool|so|hmm|ah|oh)\W+)*"
    r"(?:(?:and|but|or|also|plus|then|same|what about|how about|what if|what of)\b|is (?:it|that) the same\b"
    r"|does (?:it|that|this) (?:also |still )?apply\b|(?:for|in) (?:a |an |the )?\w+\?*$)"
)
_POINTERS = re.compile(r"\b(?:it|its|it's|that|those|these|they|them|their|this|one|ones|there|same|such)\b")
_BUILDINGS = HOUSE | SHARED | COMMERCIAL
LONGEST_FOLLOW_UP = 14
CARRIED = 0.8


def question_read(question: str, history: Sequence[str], reader: Reader) -> Reading:
    """The question as it is meant, after at most four earlier ones."""
    reading = reader.read(question)
    if not history or not _follows(question, reading):
        return reading
    earlier = list(history[-5:])
    # Back to the last question that stands on its own, then forward again, each in the light of the one before.
    start = len(earlier) - 1
    while start > 0 and _follows(earlier[start], reader.read(earlier[start])):
        start -= 1
    meant = reader.read(earlier[start])
    for follow_up in earlier[start + 1 :]:
        meant = _merged(reader.read(follow_up), meant)
    return _merged(reading, meant)


def _follows(question: str, reading: Reading) -> bool:
    folded = fold(question)
    if len(folded.split()) > LONGEST_FOLLOW_UP or (reading.references and not _OPENERS.search(folded)):
        return False
    subjects = reading.things - _BUILDINGS
    if _OPENERS.search(folded):
        return len(subjects) <= 2
    return (not subjects and not reading.classes | reading.references_keys()) or (
        len(subjects) <= 1 and bool(_POINTERS.search(folded))
    )


def _merged(later: Reading, earlier: Reading) -> Reading:
    """The earlier question with what the later one changes: its building, its place, its aspect."""
    dropped: set[str] = set()
    if later.things & _BUILDINGS or later.classes:
        dropped |= {"=" + name for name in _BUILDINGS} | {"!" + name for name in earlier.classes}
    if later.places:
        dropped |= {"^" + name for name in earlier.places}
    aspects_kept = not later.aspects
    if not aspects_kept:
        dropped |= {"@" + name for name in earlier.aspects}
    new_subject = bool(later.things - _BUILDINGS) and aspects_kept
    features = {
        name: weight * CARRIED
        for name, weight in earlier.features.items()
        if name not in dropped and _kept(name, earlier, dropped)
    }
    content = {stem: weight * CARRIED for stem, weight in earlier.content.items() if _kept(stem, earlier, dropped)}
    if new_subject:
        # "What about balustrades?" keeps the aspect, not the thing.
        things = {"=" + name for name in earlier.things - _BUILDINGS}
        features = {
            name: weight for name, weight in features.items() if name not in things and _kept(name, earlier, things)
        }
        content = {stem: weight for stem, weight in content.items() if _kept(stem, earlier, things)}
    return replace(
        later,
        features={**features, **later.features},
        content={**content, **later.content},
        covers={**earlier.covers, **later.covers},
        things=later.things | {name for name in earlier.things if "=" + name in features},
        aspects=later.aspects or set(earlier.aspects),
        target=later.target or (set(earlier.target) if aspects_kept else set()),
        places=later.places or set(earlier.places),
        place_names=later.place_names or set(earlier.place_names),
        classes=later.classes or ({name for name in earlier.classes if "!" + name in features}),
        references=later.references or ([] if new_subject else earlier.references),
        text=" ".join([later.text, *(word for word in earlier.text.split() if stem(word) in content)]),
        asks=True,
    )


def _kept(stem: str, earlier: Reading, dropped: set[str]) -> bool:
    """A word goes with the thing or aspect it stood for, unless it stood for another one too."""
    covered = earlier.covers.get(stem, set())
    return not covered or bool(covered - dropped)
