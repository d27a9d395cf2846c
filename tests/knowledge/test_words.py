"""Words, units, thesaurus and spelling: what a question is read as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.index import snapshot_current
from knowledge.normalise import fold, stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("865mm", ["865mm"]),
        ("865 mm", ["865mm"]),
        ("865 millimetres", ["865mm"]),
        ("1,800 mm", ["1800mm"]),
        ("2.40 m", ["2.4m"]),
        ("1 in 14", ["1:14"]),
        ("1:14", ["1:14"]),
        ("300 square metres", ["300m2"]),
        ("Class 7b", ["class7b"]),
        ("Classes 5 to 8", ["class5", "class6", "class7", "class8"]),
        ("class 2 and 3", ["class2", "class3"]),
        ("Māori café", ["maori", "cafe"]),
        ("self-closing", ["self", "closing"]),
        ("the builder's don't", ["the", "builder", "dont"]),
        ("BAL-29", ["bal29"]),
    ],
)
def test_words(text, expected):
    assert words(fold(text)) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("gutters", "gutter"), ("storeys", "storey"), ("closing", "close"), ("balconies", "balcony"), ("fitted", "fit")],
)
def test_stems_of_one_word_are_the_same(one, other):
    assert stem(one) == stem(other)


@given(st.text(max_size=200))
def test_any_text_has_words(text):
    assert all(isinstance(word, str) and word for word in words(fold(text)))


@pytest.fixture
def read(db):
    return snapshot_current().matcher.reader.read


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("my flat", "apartment"),
        ("sole-occupancy unit", "apartment"),
        ("townhouse", "house"),
        ("balustrade", "barrier"),
        ("the banister", "handrail"),
        ("pool fence", "poolbarrier"),
        ("gyprock", "plasterboard"),
        ("the downpipe", "downpipe"),
        ("the dunny", "toilet"),
        ("sparky", "electrician"),
        ("fusebox", "switchboard"),
        ("an RPZ", "backflow"),
        ("white ants", "termite"),
        ("OSD tank", "osd"),
    ],
)
def test_everyday_words_have_the_trade_s_meaning(read, text, thing):
    assert thing in read(text).things


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hieght", "height"),
        ("sprinklrs", "sprinklers"),
        ("handrial", "handrail"),
        ("compartmnt", "compartment"),
        ("balistrade", "balustrade"),
        ("termits", "termites"),
        ("eartquake", "earthquake"),
    ],
)
def test_slips_are_corrected(read, typed, meant):
    assert stem(meant) in read(f"the {typed} here").content or stem(meant) in read(f"the {typed} here").features
    assert read(f"the {typed} here").words == f"the {meant} here"


@pytest.mark.parametrize("word", ["wool", "cladding", "tiler", "dog", "coat", "passenger", "soccer", "pine", "hammock"])
def test_real_words_are_left_alone(read, word):
    assert read(f"my {word} here").words == f"my {word} here"


@pytest.mark.parametrize("word", ["zxqv", "qwlkej", "blorf"])
def test_nonsense_is_left_alone_and_noted(read, word):
    assert read(f"my {word} here").unknown == {stem(word)}


def test_what_comes_before_the_question_weighs_less(read):
    reading = read(
        "I bought a lovely orange carpet for the lounge at the sale. How high must the balustrade of my deck be?"
    )

    assert reading.content["carpet"] < reading.content["balustrad"] == 1
    assert "height" in reading.target


@pytest.mark.parametrize(
    ("text", "place"),
    [("in Dubbo", "NSW"), ("in Aotearoa", "NZ"), ("in the United Kingdom", "XX"), ("in Canberra ACT", "ACT")],
)
def test_places(read, text, place):
    assert place in read(text).places


def test_an_act_of_parliament_is_no_place(read):
    assert read("the Building Act 1993").places == set()
