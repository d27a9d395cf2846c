import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from knowledge.evaluation import Answer, evaluate
from knowledge.references import KnownReferences

KNOWN = KnownReferences.read(["D3D22 and AS 1428.1"])
ITEM = {"id": "a1", "question": "q", "style": "lay", "facts": ["rail"], "clause": ["D3D22"], "figure": ["865 mm"]}
UNANSWERABLE = {"id": "n1", "question": "u", "kind": "neighbour"}


def outcome(answer, items=None):
    return evaluate(items or {"answerable": [ITEM], "unanswerable": []}, lambda question: answer, KNOWN)


def test_clause_figure_and_note_right():
    measured = outcome(Answer("Not less than 865 mm, D3D22(1)(d).", declined=False, facts=("rail",)))

    assert measured.passed
    assert measured.counts == {"answerable/lay": [1, 1]}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer("", declined=True), "declined"),
        (Answer("865 mm, D3D22", declined=False, facts=("ramp",)), "ramp instead of rail"),
        (Answer("1 m, D3D22", declined=False, facts=("rail",)), "without 865 mm"),
        (Answer("865 mm, AS 1428.1", declined=False, facts=("rail",)), "without clause D3D22"),
        (Answer("865 mm, D3D22 and Z9D44", declined=False, facts=("rail",)), "names Z9D44"),
    ],
)
def test_each_fault_is_named(answer, why):
    measured = outcome(answer)

    assert [failure.why for failure in measured.failures] == [why]
    assert not measured.passed


def test_thousands_and_dashes_do_not_matter():
    item = {**ITEM, "figure": ["5,000 m2"]}

    assert outcome(Answer("5000 m², D3D22", False, ("rail",)), {"answerable": [item], "unanswerable": []}).passed


def test_what_nothing_answers_must_be_declined():
    items = {"answerable": [], "unanswerable": [UNANSWERABLE]}

    assert outcome(Answer("We do not know.", declined=True), items).passed
    assert not outcome(Answer("865 mm", declined=False), items).passed


def test_one_invented_clause_fails_the_whole():
    items = {"answerable": [ITEM] * 99, "unanswerable": []}
    answers = iter([Answer("865 mm D3D22 Z9D44", False, ("rail",))] + [Answer("865 mm D3D22", False, ("rail",))] * 98)

    measured = evaluate(items, lambda question: next(answers), KNOWN)

    assert measured.ratio("answerable") > 0.98
    assert (measured.invented, measured.passed) == (1, False)


@pytest.mark.django_db
class TestCommand:
    def run(self, file, *args):
        out = io.StringIO()
        call_command("knowledge", "evaluate", str(file), *args, stdout=out)
        return out.getvalue()

    def test_table(self, tmp_path):
        question = {
            **ITEM,
            "question": "How high must a handrail be in an apartment building?",
            "facts": ["handrail-v1-865"],
        }
        file = tmp_path / "items.json"
        file.write_text(json.dumps({"answerable": [question], "unanswerable": [{**UNANSWERABLE, "question": "Hi!"}]}))

        table = self.run(file)

        assert "answerable/lay" in table
        assert "100.0%  (target 98%)" in table

    def test_below_the_targets_it_fails_and_shows_why(self, tmp_path, capsys):
        file = tmp_path / "items.json"
        wrong = {**UNANSWERABLE, "question": "How high must a handrail be in a house?"}
        file.write_text(json.dumps({"answerable": [], "unanswerable": [wrong]}))

        with pytest.raises(CommandError, match="Below the targets"):
            self.run(file, "--failures")

    def test_a_file_that_cannot_be_read(self, tmp_path):
        with pytest.raises(CommandError, match="cannot be read"):
            self.run(tmp_path / "missing.json")

    def test_questions_that_nothing_was_fitted_to(self):
        """development.json is what the weights were fitted to, evaluation.json was mended against; this is neither."""
        self.run(Path(__file__).parent / "holdout.json")
