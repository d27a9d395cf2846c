"""Fits `data/weights.json`, in plain Python: some thousand labelled questions, a minute.

Labelled are the phrases of the notes themselves, each left out in its turn, and the questions of a development file.
The held-out evaluation file must never come near this module.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from operator import mul

from knowledge.features import NAMES, Row, candidates
from knowledge.matching import NO_NOTE, Left, Matcher
from knowledge.weighing import Model, Segment, answer_row

RANK_STEPS, ACCEPT_STEPS = 120, 300
MANNERS = frozenset({"bias", "asks", "short", "length", "corrected", "target_none"})
"""How a question is put says nothing about whether it is answered, only about who wrote the labelled phrases."""
RISING = frozenset({
    "best", "second", "third", "letters", "contained", "cover", "cover_core", "subject", "aspect", "scope_fit",
    "class_fit", "reference_fit", "feature_cover", "figure_fit", "lead", "title", "things", "bayes", "target_fit",
    "gap", "share", "mean", "state_fit", "top_best", "top_cover_core", "top_feature_cover", "top_letters",
})  # fmt: skip
"""Features of which more speaks for an answer. Of every other one more speaks against it."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
OFF_TOPIC_WEIGHT = 3.0
DEVELOPMENT_WEIGHT = 4.0
"""A question that a stranger wrote counts as this many phrases of the notes."""


@dataclass(frozen=True, slots=True)
class Example:
    rows: dict[int, Row]
    right: frozenset[int]
    weight: float


def aspect_odds(matcher: Matcher) -> dict[str, float]:
    """Log odds that a phrase is one the note does not answer, given that it names an aspect the note never does."""
    missing: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    total = {True: 2, False: 2}
    for phrase in matcher.phrases:
        if phrase.note == NO_NOTE:
            continue
        total[phrase.positive] += 1
        left = Left(matcher.profiles[phrase.note], phrase)
        missing[phrase.positive].update(name for name in phrase.reading.aspects if left.aspect(name) <= 0)
    return {
        name: round(log((missing[False][name] + 1) / total[False]) - log((missing[True][name] + 1) / total[True]), 2)
        for name in sorted(missing[True].keys() | missing[False].keys())
    }


def examples_left_out(matcher: Matcher, odds: dict[str, float]) -> list[Example]:
    return [
        Example(
            candidates(matcher, phrase.reading, odds, phrase, number),
            frozenset({phrase.note}) if phrase.positive else frozenset(),
            OFF_TOPIC_WEIGHT if phrase.note == NO_NOTE else 1.0,
        )
        for number, phrase in enumerate(matcher.phrases)
    ]


def examples_asked(
    matcher: Matcher, odds: dict[str, float], asked: Iterable[tuple[str, Sequence[str]]]
) -> list[Example]:
    """`asked`: question and the keys of the notes that answer it, none when nothing does."""
    number = {note.key: index for index, note in enumerate(matcher.notes)}
    return [
        Example(
            candidates(matcher, matcher.reader.read(question), odds),
            frozenset(number[key] for key in keys if key in number),
            DEVELOPMENT_WEIGHT,
        )
        for question, keys in asked
    ]


def fit(examples: Sequence[Example], odds: dict[str, float], threshold: float) -> Model:
    usable = [example for example in examples if example.rows]
    rank = _fit_rank([example for example in usable if example.right & example.rows.keys()])
    ranked = Model(odds, rank, {}, 0.0, threshold)
    rows = [answer_row(example.rows, ranked.order(example.rows)) for example in usable]
    curves, bias = _fit_accept(
        rows, [bool(example.right) for example in usable], [example.weight for example in usable]
    )
    return Model(odds, rank, curves, bias, threshold)


class _Adam:
    """Kingma and Ba 2015, on lists."""

    def __init__(self, size: int, rate: float) -> None:
        self.values = [0.0] * size
        self._first = [0.0] * size
        self._second = [0.0] * size
        self._rate = rate
        self._step = 0

    def descend(self, gradient: Sequence[float]) -> None:
        self._step += 1
        fade_first, fade_second = 1 - 0.9**self._step, 1 - 0.99**self._step
        for index, slope in enumerate(gradient):
            self._first[index] = 0.9 * self._first[index] + 0.1 * slope
            self._second[index] = 0.99 * self._second[index] + 0.01 * slope * slope
            pace = (self._first[index] / fade_first) / (sqrt(self._second[index] / fade_second) + 1e-8)
            self.values[index] -= self._rate * pace


def _fit_rank(examples: Sequence[Example], ridge: float = 1e-3) -> dict[str, float]:
    """Conditional logistic regression: the right note against the other candidates of the same question."""
    groups = []
    flat: list[list[float]] = []
    for example in examples:
        start = len(flat)
        flat.extend([row[name] for name in NAMES] for row in example.rows.values())
        groups.append((start, len(flat), [index in example.right for index in example.rows], example.weight))
    columns = list(zip(*flat, strict=True))
    total = sum(example.weight for example in examples)
    descent = _Adam(len(NAMES), 0.15)
    for _ in range(RANK_STEPS):
        scores = [sum(map(mul, descent.values, row)) for row in flat]
        pulls = [0.0] * len(flat)
        for start, end, right, weight in groups:
            highest = max(scores[start:end])
            odds = [exp(score - highest) for score in scores[start:end]]
            whole, good = sum(odds), sum(share for share, is_right in zip(odds, right, strict=True) if is_right)
            for offset, (share, is_right) in enumerate(zip(odds, right, strict=True)):
                pulls[start + offset] = weight / total * (share / whole - (share / good if is_right and good else 0.0))
        descent.descend(
            [
                sum(map(mul, column, pulls)) + ridge * value
                for column, value in zip(columns, descent.values, strict=True)
            ]
        )
    return {name: round(value, 4) for name, value in zip(NAMES, descent.values, strict=True) if abs(value) >= 1e-4}


def _fit_accept(
    rows: Sequence[Row], answered: Sequence[bool], weights: Sequence[float], ridge: float = 3e-3
) -> tuple[dict[str, list[Segment]], float]:
    """Logistic regression over segments of the features, each slope held to the sign that makes sense of it."""
    segments = [
        (name, start, end)
        for name in rows[0]
        if name not in MANNERS
        for start, end in pairwise(_knots([row[name] for row in rows]))
    ]
    columns = [[max(0.0, min(row[name], end) - start) / (end - start) for row in rows] for name, start, end in segments]
    columns.append([1.0] * len(rows))
    flat = list(zip(*columns, strict=True))
    total = sum(weights)
    descent = _Adam(len(columns), 0.03)
    for _ in range(ACCEPT_STEPS):
        pulls = [
            weight / total * (1 / (1 + exp(-max(-30.0, min(30.0, sum(map(mul, descent.values, row)))))) - is_answered)
            for row, is_answered, weight in zip(flat, answered, weights, strict=True)
        ]
        gradient = [
            sum(map(mul, column, pulls)) + ridge * value for column, value in zip(columns, descent.values, strict=True)
        ]
        gradient[-1] -= ridge * descent.values[-1]
        descent.descend(gradient)
        for index, (name, _, _) in enumerate(segments):
            held = max(0.0, descent.values[index]) if name in RISING else min(0.0, descent.values[index])
            descent.values[index] = held
    curves: dict[str, list[Segment]] = {}
    for (name, start, end), value in zip(segments, descent.values, strict=False):
        if abs(value) > 1e-3:
            curves.setdefault(name, []).append((start, end, round(value / (end - start), 4)))
    return curves, round(descent.values[-1], 4)


def _knots(values: Sequence[float]) -> list[float]:
    """From zero to the largest, parted where the values are."""
    ordered = sorted(values)
    return sorted({0.0} | {max(0.0, round(ordered[int(share * (len(ordered) - 1))], 4)) for share in QUANTILES})
