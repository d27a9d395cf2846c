import io
import json

import pytest
from django.core.management import call_command

from knowledge import fitting
from knowledge.features import NAMES
from knowledge.fitting import Example, fit
from knowledge.index import snapshot_current
from knowledge.management.commands import knowledge as command
from knowledge.weighing import answer_row, model


def row(**values):
    return {**dict.fromkeys(NAMES, 0.0), "bias": 1.0, **values}


def examples():
    """A good match is right and answered; a poor one is neither."""
    found = []
    for step in range(40):
        good, poor = 0.6 + step / 100, 0.1 + step / 200
        found.append(Example({0: row(best=good, cover=good), 1: row(best=poor, cover=poor)}, frozenset({0}), 1.0))
        found.append(Example({0: row(best=poor, odd=0.8), 1: row(best=poor / 2, odd=0.9)}, frozenset(), 1.0))
    return found


def test_fitted_to_tell_good_from_poor():
    fitted = fit(examples(), {}, 0.5)

    for example in examples():
        order = fitted.order(example.rows)
        assert (fitted.probability(answer_row(example.rows, order)) >= 0.5) == bool(example.right)
        assert not example.right or order[0][0] in example.right


def test_more_of_a_good_thing_never_makes_an_answer_less_likely():
    base = {
        **row(),
        "gap": 0.0,
        "share": 0.5,
        **{"top_" + name: 0.0 for name in ("best", "cover_core", "feature_cover", "letters")},
    }
    for name in base:
        if name in fitting.MANNERS:
            continue
        chances = [model().probability({**base, name: value / 10}) for value in range(31)]
        assert chances == sorted(chances, reverse=name not in fitting.RISING), name


@pytest.mark.django_db
def test_a_phrase_left_out_knows_nothing_of_itself():
    matcher = snapshot_current().matcher
    number = next(i for i, phrase in enumerate(matcher.phrases) if phrase.positive)

    by_feature, by_letter, _ = matcher.nearest(matcher.phrases[number].reading, without=number)

    assert (by_feature[number], by_letter[number]) == (0.0, 0.0)


@pytest.mark.django_db
def test_command_writes_weights_that_load(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "DATA", tmp_path)
    monkeypatch.setattr(fitting, "RANK_STEPS", 2)
    monkeypatch.setattr(fitting, "ACCEPT_STEPS", 2)
    monkeypatch.setattr(fitting, "examples_left_out", lambda matcher, odds: [])
    development = tmp_path / "development.json"
    development.write_text(
        json.dumps(
            {
                "answerable": [{"question": "handrail height house", "facts": ["handrail-hp"]}],
                "unanswerable": [{"question": "what diameter is a handrail"}],
            }
        )
    )

    call_command("knowledge", "fit", str(development), "--threshold", "0.3", stdout=io.StringIO())

    assert json.loads((tmp_path / "weights.json").read_text())["threshold"] == 0.3
