import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.references import KnownReferences, marks, references_find, references_mark

KNOWN = KnownReferences.read(
    [
        "NCC 2022 Volume One D3D14(1)(a)-(c) (2019: D2.13); Table C3D3; S41C6; Part F7; H4D2",
        "AS 1428.1:2009, AS/NZS 3500.3:2021, Specification 20, Specifications 17 and 18",
        "ABCB Housing Provisions Standard 2022 11.3.5, Table 11.2.2a; F4/AS1; NZ Building Code clause F4, F4.3.1",
    ]
)


def marked(text):
    return [(mark["text"], mark["known"]) for mark in marks(text, KNOWN)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See D3D14.", [("D3D14", True)]),
        ("See D3D14(1)(a).", [("D3D14(1)(a)", True)]),
        ("Under clause Z9D44 it must", [("Z9D44", False)]),
        ("Clause 11.3.5 and clause 11.9.9", [("11.3.5", True), ("11.9.9", False)]),
        ("AS 1428.1 and AS 1428.4", [("AS 1428.1", True), ("AS 1428.4", False)]),
        ("AS/NZS 3500.3:2021", [("AS/NZS 3500.3:2021", True)]),
        ("AS/NZS 3500.3:1998", [("AS/NZS 3500.3:1998", False)]),
        ("Specification 20 or Specification 99", [("Specification 20", True), ("Specification 99", False)]),
        ("Specifications 17 and 88", [("Specifications 17", True), ("88", False)]),
        ("Table C3D3", [("Table C3D3", True)]),
        ("Table 11.2.2a", [("Table 11.2.2a", True)]),
        ("S41C6 and S88C3", [("S41C6", True), ("S88C3", False)]),
        ("D2.13 in the 2019 edition", [("D2.13", True)]),
        ("F4/AS1", [("F4/AS1", True)]),
        ("Part F7 and Part Q3", [("Part F7", True), ("Part Q3", False)]),
        ("D3D14, then D3D14 again", [("D3D14", True)]),
    ],
)
def test_what_is_named_is_marked(text, expected):
    assert marked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Version 3.4.5 of the software",
        "a gap of 12.5 mm and 0.5 m",
        "on 12.5.2022 at 10.30 am",
        "the B2B portal, an A4 page, model XR-D3D14-B and COVID19",
        "as 1000 people know",
        "a 1:14 slope, 7 stars, 25 m, -/60/30",
        "Phone 0412.345.678",
    ],
)
def test_figures_and_model_numbers_are_no_references(text):
    assert marked(text) == []


@pytest.mark.django_db
def test_marks_come_from_the_knowledge_base():
    assert references_mark("D3D22 and D99D99") == [{"text": "D3D22", "known": True}, {"text": "D99D99", "known": False}]


@pytest.mark.parametrize(
    "unit", ["D3D14(", "AS 1", "1.1.1.", "Specification 1, ", "clause ", "((((", "AS/NZS ", "a1.1"]
)
def test_a_hostile_text_takes_linear_time(unit):
    started = time.process_time()
    marks(unit * (200_000 // len(unit)), KNOWN)

    assert time.process_time() - started < 3


@given(st.text(max_size=200))
def test_marks_are_pieces_of_the_text(text):
    for named in references_find(text):
        assert named.text in text
        assert text[named.start : named.end].strip() == named.text
