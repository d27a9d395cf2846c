import json
import uuid

import pytest

from chat.models import Turn
from tests.chat.asking import answer_of, problem_of, recorded

pytestmark = pytest.mark.django_db

BAD_FIELDS = {
    "no question": ({}, "question"),
    "null question": ({"question": None}, "question"),
    "number": ({"question": 1}, "question"),
    "true": ({"question": True}, "question"),
    "list": ({"question": ["?"]}, "question"),
    "object": ({"question": {"text": "?"}}, "question"),
    "empty": ({"question": ""}, "question"),
    "blank": ({"question": " \t\r\n "}, "question"),
    "blank in Unicode": ({"question": "\u00a0\u2003\u3000"}, "question"),
    "blank after cleaning": ({"question": "\x01\x02 \ufffe\ufdd0"}, "question"),
    "NUL": ({"question": "a\x00b"}, "question"),
    "NUL alone": ({"question": "\x00"}, "question"),
    "8001 characters": ({"question": "a" * 8001}, "question"),
    "session number": ({"question": "?", "session_id": 1}, "session_id"),
    "session empty": ({"question": "?", "session_id": ""}, "session_id"),
    "session upper case": ({"question": "?", "session_id": str(uuid.uuid4()).upper()}, "session_id"),
    "session without hyphens": ({"question": "?", "session_id": uuid.uuid4().hex}, "session_id"),
    "session in braces": ({"question": "?", "session_id": f"{{{uuid.uuid4()}}}"}, "session_id"),
    "session as urn": ({"question": "?", "session_id": uuid.uuid4().urn}, "session_id"),
    "session with line break": ({"question": "?", "session_id": f"{uuid.uuid4()}\n"}, "session_id"),
    "session in other digits": ({"question": "?", "session_id": "\u0661" * 8 + str(uuid.uuid4())[8:]}, "session_id"),
    "session list": ({"question": "?", "session_id": [str(uuid.uuid4())]}, "session_id"),
    "stream text": ({"question": "?", "stream": "true"}, "stream"),
    "stream number": ({"question": "?", "stream": 1}, "stream"),
    "stream list": ({"question": "?", "stream": []}, "stream"),
    "topics text": ({"question": "?", "topics": "fire"}, "topics"),
    "topics object": ({"question": "?", "topics": {"a": "b"}}, "topics"),
    "topics of numbers": ({"question": "?", "topics": [1]}, "topics"),
    "topics with null": ({"question": "?", "topics": [None]}, "topics"),
    "topics nested": ({"question": "?", "topics": [["fire"]]}, "topics"),
    "topics with NUL": ({"question": "?", "topics": ["a\x00"]}, "topics"),
    "11 topics": ({"question": "?", "topics": ["t"] * 11}, "topics"),
    "topic of 41": ({"question": "?", "topics": ["t" * 41]}, "topics"),
    "unknown field": ({"question": "?", "temperature": 2}, "temperature"),
    "unknown null": ({"question": "?", "user": None}, "user"),
    "other case": ({"question": "?", "Question": "?"}, "Question"),
    "field of no name": ({"question": "?", "": 1}, ""),
    "prototype": ({"question": "?", "__proto__": {}}, "__proto__"),
}


@pytest.mark.parametrize(("body", "field"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_a_bad_field_is_400_that_names_it(owner, path, body, field):
    problem = problem_of(owner.post_json(path, body), 400, "bad_input")
    assert list(problem["errors"]) == [field]
    assert all(isinstance(text, str) and text for text in problem["errors"][field])
    assert Turn.objects.count() == 0


def test_8001_characters_of_four_bytes_each_are_one_too_many(owner):
    raw = json.dumps({"question": "\U0001f3d7" * 8001}, ensure_ascii=False).encode()
    problem = problem_of(owner.client.post("/chat", raw, content_type="application/json"), 400)
    assert "8001" in problem["errors"]["question"][0]


def test_all_bad_fields_are_named_at_once(owner):
    body = {"question": "", "session_id": "x", "topics": 1}
    assert problem_of(owner.post_json("/chat", body), 400)["errors"].keys() == body.keys()


def test_a_thousand_unknown_fields_make_a_short_problem(owner):
    body = {"question": "?", **{f"field{n}": 0 for n in range(1000)}}
    response = owner.post_json("/chat", body)
    problem_of(response, 400)
    assert len(response.content) < 4096


MALFORMED = {
    "no body": b"",
    "white space": b"  \n ",
    "not JSON": b"question=?",
    "cut off": b'{"question":"?"',
    "two values": b'{"question":"?"}{}',
    "trailing comma": b'{"question":"?",}',
    "comment": b'{"question":"?"} // why',
    "single quotes": b"{'question':'?'}",
    "list": b'[{"question":"?"}]',
    "text": b'"question"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
    "duplicate key": b'{"question":"a","question":"b"}',
    "duplicate key, one escaped": b'{"question":"a","\\u0071uestion":"b"}',
    "duplicate key inside": b'{"question":"?","topics":[{"a":1,"a":2}]}',
    "byte order mark": b'\xef\xbb\xbf{"question":"?"}',
    "bad UTF-8": b'{"question":"\xff\xfe"}',
    "overlong UTF-8": b'{"question":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"question":"\xed\xa0\x80"}',
    "cut off UTF-8": b'{"question":"\xe2\x82"}',
    "UTF-16": '{"question":"?"}'.encode("utf-16"),
    "UTF-16 without mark": '{"question":"?"}'.encode("utf-16-le"),
    "UTF-32": '{"question":"?"}'.encode("utf-32-be"),
    "lone high surrogate": b'{"question":"\\ud83c"}',
    "lone low surrogate": b'{"question":"a\\udf00b"}',
    "surrogates swapped": b'{"question":"\\udf00\\ud83c"}',
    "surrogate in a key": b'{"question":"?","\\ud800":1}',
    "surrogate in an unknown field": b'{"question":"?","x":["\\ud800"]}',
    "raw control character": b'{"question":"a\x01b"}',
    "raw NUL": b'{"question":"a\x00b"}',
    "raw line break": b'{"question":"a\nb"}',
    "NaN": b'{"question":"?","topics":NaN}',
    "Infinity": b'{"question":"?","topics":-Infinity}',
    "deep lists": b'{"question":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep and open": b"[" * 65_000,
    "huge integer": b'{"question":"?","topics":' + b"9" * 60_000 + b"}",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_400_and_nothing_is_recorded(owner, raw):
    before = recorded()
    problem_of(owner.client.post("/chat", raw, content_type="application/json"), 400)
    assert recorded() == before


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400, "-0", "1.5", "1E5"])
def test_an_unusual_number_is_400(owner, number):
    raw = f'{{"question":{number}}}'.encode()
    assert problem_of(owner.client.post("/chat", raw, content_type="application/json"), 400)["errors"]["question"]


@pytest.mark.parametrize("depth", [100, 900, 2000])
def test_depth_that_parses_is_400_by_its_field(owner, depth):
    raw = b'{"question":' + b"[" * depth + b"]" * depth + b"}"
    problem_of(owner.client.post("/chat", raw, content_type="application/json"), 400)


@pytest.mark.parametrize(
    "raw",
    [
        '{ "question" : "?" }\n',
        '{"question":"\\u003f"}',
        '{"question":"\\ud83c\\udfd7"}',
        '{"question":"🏗 Ūnïcode text"}',
        '{"question":"\\u0001?"}',
        '{"question":"?\\/"}',
    ],
)
def test_any_valid_spelling_of_json_is_read(owner, raw):
    answer_of(owner.client.post("/chat", raw.encode(), content_type="application/json"))
    assert Turn.objects.count() == 1


def body_of(size: int) -> bytes:
    """A valid body of exactly `size` bytes, filled up with white space."""
    raw = b'{"question":"?"}'
    return raw + b" " * (size - len(raw))


def test_a_body_of_64_kib_is_read(owner):
    answer_of(owner.client.post("/chat", body_of(65_536), content_type="application/json"))
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("size", [65_537, 1_000_000, 3_000_000])
def test_a_body_over_64_kib_is_413(owner, size):
    problem_of(owner.client.post("/chat", body_of(size), content_type="application/json"), 413, "body_too_large")
    assert Turn.objects.count() == 0


def test_a_large_body_of_a_session_with_cookie_is_413_too(owner):
    response = owner.browser.post("/chat", body_of(3_000_000), content_type="application/json")
    problem_of(response, 413, "body_too_large")


def test_an_error_never_repeats_the_question(owner):
    response = owner.post_json("/chat", {"question": "my secret site", "session_id": "my secret session", "q": 1})
    problem_of(response, 400)
    assert "secret" not in json.dumps(response.json())
