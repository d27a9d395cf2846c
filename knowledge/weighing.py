"""The fitted model: which candidate note comes first, and whether it answers at all.

Ranking is linear over the rows of `features`. Acceptance is a sum of piecewise linear curves, one a feature, through
the logistic function; each curve only rises or only falls, so that a better match can never make an answer less likely.
Both are numbers in `data/weights.json`, written by `manage.py knowledge fit`.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from math import exp

from knowledge.features import Row
from knowledge.lexicon import DATA

FAR = 0.35
STRONGEST = ("best", "cover_core", "feature_cover", "letters")

# A rule of the other country is no answer, however well its words fit: it stands behind any that could be meant. Not
# fitted, because few of the labelled questions leave the country open.
OTHER_COUNTRY = 2.0

# From, to, slope: between the two the logit changes by slope for each unit of the feature.
Segment = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Model:
    aspect_odds: dict[str, float]
    rank: dict[str, float]
    curves: dict[str, list[Segment]]
    bias: float
    threshold: float

    def stored(self) -> dict[str, object]:
        return {
            "aspect_odds": self.aspect_odds,
            "rank": self.rank,
            "curves": self.curves,
            "bias": self.bias,
            "threshold": self.threshold,
        }

    def order(self, rows: dict[int, Row]) -> list[tuple[int, float]]:
        """`(note, score)`, best first."""
        scores = [
            (
                index,
                sum(self.rank.get(name, 0.0) * value for name, value in row.items()) - OTHER_COUNTRY * row["nz_clash"],
            )
            for index, row in rows.items()
        ]
        return sorted(scores, key=lambda pair: -pair[1])

    def probability(self, answer: Row) -> float:
        """How likely the question of an `answer_row` is answered by the notes at all."""
        logit = self.bias
        for name, curve in self.curves.items():
            value = answer.get(name, 0.0)
            for start, end, slope in curve:
                if value > start:
                    logit += slope * (min(value, end) - start)
        return 1 / (1 + exp(-max(-30.0, min(30.0, logit))))


def is_beside_the_point(row: Row) -> bool:
    """Nothing that the question names is anything the note is about, and no labelled phrase is near."""
    return row["subject"] == 0 and row["things"] == 0 and row["reference_fit"] == 0 and row["best"] < FAR


def answer_row(rows: dict[int, Row], order: list[tuple[int, float]]) -> Row:
    """One row for the question as a whole: its first note's, how clear the lead is, and the best of the first three."""
    first, score = order[0]
    row = dict(rows[first])
    row["gap"] = min(5.0, score - order[1][1]) if len(order) > 1 else 5.0
    row["share"] = 1 / sum(exp(max(-30.0, other - score)) for _, other in order)
    for name in STRONGEST:
        row["top_" + name] = max(rows[index][name] for index, _ in order[:3])
    return row


@lru_cache(maxsize=1)
def model() -> Model:
    stored = json.loads((DATA / "weights.json").read_text("utf-8"))
    return Model(
        aspect_odds=stored["aspect_odds"],
        rank=stored["rank"],
        curves={name: [(start, end, slope) for start, end, slope in curve] for name, curve in stored["curves"].items()},
        bias=stored["bias"],
        threshold=stored["threshold"],
    )
