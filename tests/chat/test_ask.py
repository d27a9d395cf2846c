import json
import uuid

import pytest
from jsonschema import ValidationError

from chat.models import Session, Turn
from flags import snapshot
from knowledge.retrieval import search
from tests.chat.asking import ORACLE, QUESTION, answer_of, ask, converse, problem_of, recorded

pytestmark = pytest.mark.django_db
ENDPOINTS = ["/chat", "/chat/enhanced"]


def test_the_oracle_refuses_what_the_schema_forbids(owner):
    answer = ask(owner)
    answer["blocks"] = []
    with pytest.raises(ValidationError):
        ORACLE.validate(answer)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_question_gets_a_valid_answer_of_its_endpoint(owner, path):
    meta = ask(owner, path=path)["meta"]
    assert meta["enhanced"] is (path == "/chat/enhanced")
    assert (meta["schema"], meta["pipeline"], meta["provider"]) == ("v2", "unified", "extractive")
    assert (meta["turn"], meta["msg_count_before"], meta["degraded"], meta["repaired"]) == (1, 0, False, False)


def test_an_answer_carries_the_disclaimer_and_the_retention_in_force(owner, flag):
    flag("CONV_TTL_SECONDS", 7 * 86400)
    meta = ask(owner)["meta"]
    assert meta["disclaimer"] == "Verify against NCC and relevant AS/NZS before use on-site"
    assert meta["retention_notice"] == "Questions and answers are kept for 7 days and then deleted."


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_question_of_the_readme_is_answered_with_its_clause_and_figure(owner, path):
    answer = ask(owner, "How high must a handrail be on the stairs of a house?", path=path)
    said = str(answer["blocks"])
    assert "865" in said
    assert answer["citations"]
    assert answer["citations"][0]["reference"]


def test_each_mark_in_the_text_has_its_citation(owner):
    answer = ask(owner, path="/chat/enhanced")
    numbers = [citation["n"] for citation in answer["citations"]]
    assert numbers == sorted(set(numbers))
    assert all(f"[{n}]" in str(answer["blocks"]) for n in numbers)


@pytest.mark.parametrize(
    "question", ["Who won the football on Saturday?", "asdfgh qwerty zxcvb", "Under clause Z9D44, how wide is a door?"]
)
def test_what_is_not_known_is_declined_without_a_citation(owner, question):
    answer = ask(owner, question)
    assert answer["title"] == "I do not know"
    assert answer["citations"] == []
    assert Turn.objects.get().outcome == "declined"


def test_the_timing_parts_make_the_total(owner):
    timing = ask(owner)["meta"]["timing_ms"]
    assert timing["total"] > 0
    assert timing["provider"] + timing["overhead"] == pytest.approx(timing["total"], abs=0.2)
    assert timing["first_token"] is None


def test_a_question_without_a_session_starts_one(owner):
    first, second = ask(owner)["meta"], ask(owner)["meta"]
    assert first["session_id"] != second["session_id"]
    assert (first["turn"], second["turn"]) == (1, 1)
    assert Session.objects.count() == 2


def test_a_session_id_that_nobody_has_starts_that_session(owner):
    session_id = str(uuid.uuid4())
    assert ask(owner, session_id=session_id)["meta"]["session_id"] == session_id


def test_turns_of_a_session_count_up_and_tell_the_messages_before(owner):
    answers = converse(owner, "One?", "Two?", "Three?")
    assert [answer["meta"]["turn"] for answer in answers] == [1, 2, 3]
    assert [answer["meta"]["msg_count_before"] for answer in answers] == [0, 2, 4]


def test_a_follow_up_is_understood_from_the_history(owner):
    _, alone = ask(owner, QUESTION), ask(owner, "and its minimum height?")
    answers = converse(owner, QUESTION, "and its minimum height?")
    assert "865" not in str(alone["blocks"])
    assert "865" in str(answers[1]["blocks"])


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_strangers_session_is_404_and_stays_as_it_is(owner, stranger, path):
    session_id = ask(owner)["meta"]["session_id"]
    before = recorded()
    problem_of(stranger.post_json(path, {"question": "?", "session_id": session_id}), 404, "session_not_found")
    assert recorded() == before


def test_a_deleted_session_is_404_for_its_owner(owner):
    session_id = ask(owner)["meta"]["session_id"]
    owner.client.delete(f"/chat/sessions/{session_id}")
    problem_of(owner.post_json("/chat", {"question": "?", "session_id": session_id}), 404, "session_not_found")


def test_strangers_and_deleted_sessions_read_the_same(owner, stranger):
    theirs, gone = ask(owner)["meta"]["session_id"], ask(stranger)["meta"]["session_id"]
    stranger.client.delete(f"/chat/sessions/{gone}")
    problems = [
        problem_of(stranger.post_json("/chat", {"question": "?", "session_id": session_id}), 404)
        for session_id in (theirs, gone)
    ]
    assert problems[0] | {"request_id": ""} == problems[1] | {"request_id": ""}


def test_two_members_have_their_own_sessions(owner, stranger):
    ask(owner)
    ask(stranger)
    assert len(set(Session.objects.values_list("subject_ref", flat=True))) == 2


def test_null_for_an_optional_field_is_as_if_absent(owner):
    body = {"question": QUESTION, "session_id": None, "stream": None, "topics": None}
    assert answer_of(owner.post_json("/chat", body))["meta"]["turn"] == 1


def test_topics_are_accepted_up_to_ten_of_forty_characters(owner):
    assert ask(owner, topics=["t" * 40] * 10)["meta"]["turn"] == 1


def test_stream_false_is_the_plain_answer(owner):
    assert ask(owner, stream=False)["meta"]["turn"] == 1


def test_control_characters_are_removed_and_line_breaks_kept(owner):
    session_id = ask(owner, "\x01How\x7f high\ufffe,\r\nmust\ta\x85 handrail be?\x1b\ufdd0")["meta"]["session_id"]
    conversation = owner.get(f"/chat/sessions/{session_id}").json()["conversation"]
    assert conversation[0]["question"] == "How high,\nmust\ta handrail be?"


@pytest.mark.parametrize("character", ["a", "é", "\U0001f3d7", "\u200f"])
def test_length_counts_code_points_up_to_8000(owner, character):
    raw = json.dumps({"question": "a" + character * 7998 + "b"}, ensure_ascii=False).encode()
    answer_of(owner.client.post("/chat", raw, content_type="application/json"))
    assert Turn.objects.get().question_chars == 8000


@pytest.fixture
def versions_known(monkeypatch):
    """Whether flags or knowledge have changed is asked again after a while: not now."""
    snapshot.current()
    search("warm up")
    monkeypatch.setattr("flags.snapshot.FRESH_SECONDS", 3600)
    monkeypatch.setattr("knowledge.index.CHECK_SECONDS", 3600)


@pytest.mark.usefixtures("versions_known")
def test_a_first_turn_costs_a_fixed_number_of_queries(owner, django_assert_num_queries):
    ask(owner)
    # 1 token and user, 2 pseudonym, 3 savepoint, 4 advance (no row), 5 insert session, 6 advance, 7 read session,
    # 8-10 event in its savepoint, 11 content key, 12 content, 13 turn, 14 release. The flags were read just now.
    with django_assert_num_queries(14):
        owner.post_json("/chat", {"question": "What is D3D14?"})


@pytest.mark.usefixtures("versions_known")
def test_a_later_turn_costs_the_same_however_long_the_session_is(owner, django_assert_num_queries):
    session_id = converse(owner, "One?", "Two?")[0]["meta"]["session_id"]
    body = {"question": "What is D3D14?", "session_id": session_id}
    # As a first turn, less the insert and the second advance, with the session and its content read before: 14.
    with django_assert_num_queries(14):
        owner.post_json("/chat", body)
    with django_assert_num_queries(14):
        owner.post_json("/chat", body)
