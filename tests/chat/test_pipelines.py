"""Unified and legacy: what the model is asked, and what the server adds to its reply."""

import json

import pytest

from chat.models import Turn
from flags import snapshot
from flags.models import Flag
from tests.chat.asking import QUESTION, ask, content_held, converse, turn_events
from tests.model_server import DRAFT

pytestmark = pytest.mark.django_db


@pytest.fixture
def legacy(flag):
    flag("USE_UNIFIED_PIPELINE", False)


def system_of(model, n=-1) -> str:
    return model.bodies[n]["messages"][0]["content"]


def reply_with(model, text: str) -> None:
    model.reply("good", answer={**DRAFT, "blocks": [{"type": "markdown", "text": text}]})


def facts() -> dict:
    return json.loads(bytes(turn_events().last().body))["facts"]


def test_enhanced_gives_the_model_passages_and_plain_does_not(owner, model):
    ask(owner, path="/chat")
    ask(owner, path="/chat/enhanced")
    plain, enhanced = system_of(model, 0), system_of(model, 1)
    assert "[1]" not in plain
    assert "[1]" in enhanced
    assert "865" in enhanced


def test_the_passages_of_a_turn_are_on_record(owner, model):
    ask(owner, path="/chat/enhanced")
    enhanced = facts()["passages"]
    ask(owner, path="/chat")
    assert enhanced
    assert facts()["passages"] == []


def test_a_mark_in_the_reply_becomes_the_citation_of_its_passage(owner, model):
    reply_with(model, "At least 865 mm [2], measured above the nosings [1]. See also [2].")
    answer = ask(owner, path="/chat/enhanced")
    assert [citation["n"] for citation in answer["citations"]] == [1, 2]
    assert all(citation["quote"] in system_of(model) for citation in answer["citations"])
    assert all(citation["reference"] in system_of(model) for citation in answer["citations"])


@pytest.mark.parametrize("mark", ["[0]", "[99]", "[100]", "[-1]", "[1.5]", "[a]", "[ 1 ]", "[[", "[٣]"])
def test_a_mark_without_a_passage_cites_nothing(owner, model, mark):
    reply_with(model, f"At least 865 mm {mark}.")
    assert ask(owner, path="/chat/enhanced")["citations"] == []


def test_plain_chat_cites_nothing_whatever_the_model_writes(owner, model):
    reply_with(model, "At least 865 mm [1].")
    assert ask(owner, path="/chat")["citations"] == []


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_each_clause_named_is_marked_known_or_not(owner, model, path):
    reply_with(model, "See D3D14 and Z9D44, and AS/NZS 9999.7:2021.")
    answer = ask(owner, path=path)
    known = {reference["text"]: reference["known"] for reference in answer["meta"]["references"]}
    assert known["D3D14"] is True
    assert set(known.values()) == {True, False}
    assert not any(value for text, value in known.items() if "9999" in text or "Z9D44" in text)


def test_suggested_actions_are_questions_that_can_be_sent(owner):
    actions = ask(owner)["meta"]["suggested_actions"]
    assert 1 <= len(actions) <= 3
    assert len({action["label"] for action in actions}) == len(actions)
    assert ask(owner, actions[0]["payload"])["title"] != "I do not know"


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_suggested_actions_are_off_by_their_flag(owner, flag, path):
    flag("FEATURE_SUGGESTED_ACTIONS", False)
    assert ask(owner, path=path)["meta"]["suggested_actions"] == []


def test_the_kill_switch_counts_from_the_next_turn_on(owner, model, flag):
    assert ask(owner)["meta"]["pipeline"] == "unified"
    flag("USE_UNIFIED_PIPELINE", False)
    assert ask(owner)["meta"]["pipeline"] == "legacy"


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
@pytest.mark.usefixtures("legacy")
def test_legacy_wraps_plain_text_as_a_valid_answer(owner, model, path):
    model.reply("prose")
    answer = ask(owner, path=path)
    meta = answer["meta"]
    assert (meta["pipeline"], meta["enhanced"]) == ("legacy", path == "/chat/enhanced")
    assert "865 mm" in answer["blocks"][0]["text"]
    assert (meta["repaired"], meta["repair_codes"], meta["degraded"]) == (False, [], False)
    assert Turn.objects.get().pipeline == "legacy"


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
@pytest.mark.usefixtures("legacy")
def test_legacy_asks_one_plain_prompt_without_retrieval_or_suggestions(owner, model, path):
    model.reply("prose")
    answer = ask(owner, path=path)
    assert "response_format" not in model.bodies[0]
    assert "JSON" not in system_of(model)
    assert "[1]" not in system_of(model)
    assert (answer["meta"]["suggested_actions"], answer["citations"]) == ([], [])
    assert [message["role"] for message in model.bodies[0]["messages"]] == ["system", "user"]


@pytest.mark.usefixtures("legacy")
def test_legacy_remembers_the_conversation(owner, model):
    model.reply("prose")
    converse(owner, "First question", "Second question")
    roles = [(message["role"], message["content"][:14]) for message in model.bodies[1]["messages"][1:]]
    assert roles[0] == ("user", "First question")
    assert [role for role, _ in roles] == ["user", "assistant", "user"]


@pytest.mark.usefixtures("legacy")
def test_legacy_records_guards_and_marks_as_well(owner, model):
    model.reply("half")
    meta = ask(owner)["meta"]
    assert meta["repair_codes"] == ["TRUNCATED"]
    assert content_held(meta["turn_id"])["answer"]["meta"] == meta


@pytest.mark.parametrize("mode", ["refusal", "status", "null", "drop"])
@pytest.mark.usefixtures("legacy")
def test_legacy_answers_validly_whatever_the_model_server_does(owner, model, mode):
    model.reply(mode)
    assert ask(owner)["meta"]["pipeline"] == "legacy"


@pytest.mark.usefixtures("legacy")
def test_legacy_without_a_model_still_answers_from_the_knowledge_base(owner):
    answer = ask(owner)
    assert answer["meta"]["provider"] == "extractive"
    assert "865" in str(answer["blocks"])


def test_the_pipelines_share_a_conversation(owner, flag):
    session_id = ask(owner)["meta"]["session_id"]
    flag("USE_UNIFIED_PIPELINE", False)
    assert ask(owner, "and its minimum height?", session_id=session_id)["meta"]["turn"] == 2
    flag("USE_UNIFIED_PIPELINE", True)
    assert ask(owner, QUESTION, session_id=session_id)["meta"]["msg_count_before"] == 4


def test_a_cohort_gets_its_pipeline(owner, stranger, flag):
    row = Flag.objects.get(name="USE_UNIFIED_PIPELINE")
    row.everyone = None
    row.save()
    row.users.add(owner.user)
    snapshot.reset()
    assert ask(owner)["meta"]["pipeline"] == "unified"
    assert ask(stranger)["meta"]["pipeline"] == "legacy"
