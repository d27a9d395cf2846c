"""The judge of the corpus: it sees what is lost, moved or made up, and is silent about a perfect repair."""

import copy
import json
from random import Random

import pytest

from tests.guard.corpus import judge
from tests.guard.corpus.answers import ANSWERS
from tests.guard.corpus.cases import Case
from tests.guard.corpus.draft import leaves
from tests.guard.corpus.generate import corpus, says_otherwise


def item_of(shape, **changed):
    answer = copy.deepcopy(ANSWERS[shape])
    item = {
        "fault": [],
        "raw": json.dumps(answer),
        "answer": answer,
        "must_survive": leaves(answer),
        "harmless": True,
        "cut": False,
        "group": "g",
    }
    return item | changed


def table_of(draft):
    return next(block for block in draft["blocks"] if block["type"] == "table")


def spoiled(shape, change):
    item = item_of(shape)
    draft = copy.deepcopy(item["answer"])
    change(draft)
    return item, draft


def test_a_perfect_repair_is_complete_exact_and_invents_nothing():
    for item in corpus()[::4]:
        if item["harmless"]:
            assert judge.losses(item, item["answer"]) == []
            assert judge.inventions(item, item["answer"]) == []
            assert judge.exact(item, item["answer"])
            assert judge.valid(item["answer"])


def test_the_part_of_a_cut_answer_that_arrived_is_complete_but_must_be_flagged():
    for item in corpus()[::2]:
        if item["cut"]:
            blocks = [{"type": "markdown", "text": leaf} for leaf in item["must_survive"]]
            draft = {"title": "Cut", "summary": "", "blocks": blocks or [{"type": "markdown", "text": ""}]}
            assert judge.losses(item, draft) == []
            assert [word for word in judge.inventions(item, draft) if word != "cut"] == []
            assert judge.unflagged_loss(item, draft, {"L": ["TRUNCATED"]}) == []
            if item["answer"] is not None:
                assert judge.unflagged_loss(item, draft, {"S": ["MISSING_CLOSE"]})


@pytest.mark.parametrize(
    ("shape", "meant", "read", "otherwise"),
    [
        ("code_python", "mm\\n", "mm\n", True),
        ("latex_beam", "\\frac", "\frac", False),
        ("latex_beam", "\\times", "\times", False),
        ("windows_paths", "C:\\new", "C:\new", False),
        ("one_block", "a detached building", "a detached hut", False),
        ("one_block", "a detached building", "a building", True),
        ("mixed", "", "", False),
    ],
)
def test_a_text_that_says_otherwise_and_shows_no_fault_is_no_malformed_answer(shape, meant, read, otherwise):
    case = Case.of(shape, ANSWERS[shape], Random(1))
    good = json.dumps(case.answer, ensure_ascii=False)
    case.raw = good.replace(json.dumps(meant)[1:-1], json.dumps(read)[1:-1])
    assert (case.raw == good) == (meant == read)
    assert says_otherwise(case) is otherwise


def test_a_cut_answer_without_a_code_is_an_unflagged_loss():
    item = item_of("checklist", cut=True, must_survive=["Before the pre-line"])
    draft = {"title": "Before the pre-line", "summary": "", "blocks": [{"type": "markdown", "text": ""}]}
    assert judge.complete(item, draft)
    assert judge.unflagged_loss(item, draft, {"S": ["CLOSED"]})


@pytest.mark.parametrize("shape", ["checklist", "numeric", "trailing_commas", "literal_words", "nested_quotes"])
def test_a_dropped_list_item_is_a_loss(shape):
    for at in range(2):
        item, draft = spoiled(
            shape, lambda draft, at=at: next(b for b in draft["blocks"] if b["type"] == "list")["items"].pop(at)
        )
        assert judge.losses(item, draft)
        assert judge.unflagged_loss(item, draft, {"R": ["X"]})
        assert not judge.unflagged_loss(item, draft, {"L": ["DROPPED"]})


@pytest.mark.parametrize("shape", sorted(ANSWERS))
def test_a_dropped_block_or_a_cut_tail_is_a_loss(shape):
    item, draft = spoiled(shape, lambda draft: draft["blocks"].pop())
    assert judge.losses(item, draft)
    item, draft = spoiled(shape, lambda draft: draft.update(title=draft["title"][:-6]))
    assert judge.losses(item, draft)


def test_a_dropped_word_in_a_long_text_is_a_loss():
    item, draft = spoiled(
        "long_guide",
        lambda draft: draft["blocks"][0].update(text=draft["blocks"][0]["text"].replace("softens ", "", 1)),
    )
    assert judge.losses(item, draft)


@pytest.mark.parametrize(
    "shape", ["mixed", "numeric", "wide_table", "wall_frl", "literal_words", "thousands", "looks_like_json"]
)
def test_swapped_cells_are_a_loss(shape):
    def swap(draft):
        row = table_of(draft)["rows"][0]
        row[0], row[1] = row[1], row[0]

    item, draft = spoiled(shape, swap)
    assert judge.losses(item, draft)


def test_one_of_two_equal_cells_dropped_is_a_loss():
    item, draft = spoiled("mixed", lambda draft: table_of(draft)["rows"][1].__setitem__(1, ""))
    assert judge.losses(item, draft)


def test_an_invented_word_is_told():
    item, draft = spoiled("mixed", lambda draft: draft["blocks"][0].update(text="Surely " + draft["blocks"][0]["text"]))
    assert judge.inventions(item, draft) == ["surely"]
    assert judge.inventions(item, draft, ["Surely."]) == []


def test_an_invented_number_is_told():
    item, draft = spoiled("mixed", lambda draft: table_of(draft)["rows"][2].__setitem__(1, "1.57"))
    assert judge.inventions(item, draft) == ["57"]


@pytest.mark.parametrize(
    ("lost", "read"), [("\\frac", "\frac"), ("\\nu", "\nu"), ("\\beta", "\beta"), ("\\text", "\text")]
)
def test_a_lost_escape_is_a_loss(lost, read):
    shape = "latex_beam" if lost in {"\\frac", "\\text"} else "latex_greek"
    item, draft = spoiled(
        shape,
        lambda draft: draft["blocks"].__setitem__(
            0, json.loads(json.dumps(draft["blocks"][0]).replace(json.dumps(lost)[1:-1], json.dumps(read)[1:-1]))
        ),
    )
    assert draft != item["answer"]
    assert judge.losses(item, draft)


def test_a_windows_path_read_as_line_breaks_is_a_loss():
    item, draft = spoiled(
        "windows_paths", lambda draft: draft.update(title=draft["title"].replace("\\n", "\n").replace("\\t", "\t"))
    )
    assert judge.losses(item, draft)


def test_a_table_kept_as_markdown_is_no_loss():
    def flatten(draft):
        block = table_of(draft)
        rows = [block["columns"], ["---"] * len(block["columns"]), *block["rows"]]
        lines = ["|" + "|".join(cell.replace("|", "\\|") for cell in row) + "|" for row in rows]
        block_text = "\n".join([block["caption"] or "", *lines])
        draft["blocks"][draft["blocks"].index(block)] = {"type": "markdown", "text": block_text}

    for shape in ("wall_frl", "mixed", "wide_table", "thousands", "windows_paths"):
        assert judge.losses(*spoiled(shape, flatten)) == []


def test_white_space_and_neutralised_characters_make_no_difference():
    item = item_of("dialogue")
    draft = json.loads(json.dumps(item["answer"]).replace("scaffold", "scaf\\u200bfold").replace(". ", ".  \\n"))
    assert judge.losses(item, draft) == []


def test_a_title_cut_at_its_limit_and_carried_on_elsewhere_is_no_loss():
    words = " ".join(f"word{n}" for n in range(60))
    item = item_of("one_block", must_survive=[words], raw=words, answer=None)
    whole = {"title": words[:200], "summary": "", "blocks": [{"type": "markdown", "text": words[200:]}]}
    assert judge.losses(item, whole) == []
    assert judge.losses(item, {**whole, "blocks": [{"type": "markdown", "text": words[230:]}]})


def test_the_table_has_a_row_a_group():
    items = [item_of("mixed"), item_of("numeric", group="h")]
    printed = judge.table([judge.judged(item, item["answer"]) for item in items]).splitlines()
    assert [line.split(" | ")[0].strip() for line in printed] == ["group", "g", "h", "ALL MALFORMED"]
    assert printed[-1].split(" | ")[1:5] == [
        cell.ljust(len(head)) for cell, head in zip(["2", "100.0", "100.0", "100.0"], judge.HEAD[1:5], strict=True)
    ]
