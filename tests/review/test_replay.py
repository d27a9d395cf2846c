"""A recorded turn asked again: with what it was given then, through what runs now."""

import json
import uuid
from typing import Any

import pytest

from audit.holds import hold_place, hold_release
from audit.models import Event, HeldContent, TurnContent
from chat.models import Turn
from knowledge.models import Passage
from onesource.errors import BadInput, Gone, NotFound, Unavailable
from review.replaying import Replay, turn_replay
from tests.cast import Member
from tests.chat.asking import converse
from tests.model_server import ModelServer
from tests.review.turns import REASON

pytestmark = pytest.mark.django_db
QUESTIONS = ("Which gaps are allowed between the balusters of a balcony?", "And its minimum height?")


def replay(turn_id: Any, reason: str = REASON) -> Replay:
    return turn_replay(turn_id=uuid.UUID(str(turn_id)), reason=reason, actor_ref="f" * 32, source="tests")


def differing(found: Replay) -> list[str]:
    return [one.name for one in found.compared if not one.same]


def test_a_follow_up_comes_out_the_same_with_its_history(owner: Member) -> None:
    _, second = converse(owner, *QUESTIONS)
    found = replay(second["meta"]["turn_id"])
    assert (found.same, found.caveats, found.text_diff) == (True, [], [])
    # Without its history it is another question.
    TurnContent.objects.filter(seq=1).delete()
    found = replay(second["meta"]["turn_id"])
    assert found.caveats == ["Of 1 earlier turns 0 are still held."]
    assert found.text_diff


def test_what_only_a_hold_keeps_is_asked_again_with_its_history(owner: Member) -> None:
    _, second = converse(owner, *QUESTIONS)
    session_id = uuid.UUID(second["meta"]["session_id"])
    hold_place(session_id=session_id, reason="case", actor_ref="", source="tests")
    assert owner.client.delete(f"/chat/sessions/{session_id}").status_code == 204
    assert (TurnContent.objects.count(), HeldContent.objects.count()) == (0, 2)
    found = replay(second["meta"]["turn_id"])
    assert (found.same, found.caveats, found.text_diff) == (True, [], [])
    hold_release(session_id=session_id, reason="over", actor_ref="", source="tests")
    with pytest.raises(Gone):
        replay(second["meta"]["turn_id"])


def test_a_replay_is_on_record_and_leaves_nothing_else(owner: Member) -> None:
    first, _ = converse(owner, *QUESTIONS)
    turns = Turn.objects.count()
    replay(first["meta"]["turn_id"])
    event = Event.objects.get(kind="turn.replayed")
    facts = json.loads(bytes(event.body))["facts"]
    assert facts == {
        "turn_id": first["meta"]["turn_id"],
        "session_id": first["meta"]["session_id"],
        "reason": REASON,
        "source": "tests",
    }
    assert (event.stream, event.stream_seq) == (f"session:{facts['session_id']}", 3)
    assert Turn.objects.count() == turns


def test_a_replay_that_cannot_be_recorded_is_not_made(asked: Turn, refuse: Any) -> None:
    refuse("turn.replayed")
    with pytest.raises(Unavailable):
        replay(asked.pk)


def test_the_flags_are_those_of_then(asked: Turn, flag: Any) -> None:
    flag("USE_UNIFIED_PIPELINE", False)
    assert replay(asked.pk).same


def test_an_edited_or_missing_passage_is_named(owner: Member) -> None:
    first, _ = converse(owner, *QUESTIONS)
    turn_id = first["meta"]["turn_id"]
    key, *_ = json.loads(bytes(Event.objects.get(uid=Turn.objects.get(pk=turn_id).event_uid).body))["facts"]["passages"]
    Passage.objects.filter(key=key).update(text="Something else.")
    assert replay(turn_id).caveats == [f"The passage {key} was edited since."]
    Passage.objects.filter(key=key).delete()
    assert f"The passage {key} is no longer in the knowledge base." in replay(turn_id).caveats


def test_another_answer_of_the_model_is_shown(owner: Member, openai_configured: ModelServer) -> None:
    openai_configured.reply("good")
    first, _ = converse(owner, *QUESTIONS)
    assert replay(first["meta"]["turn_id"]).same
    openai_configured.reply("prose")
    found = replay(first["meta"]["turn_id"])
    assert "repair codes" in differing(found)
    assert found.text_diff[:2] == ["--- recorded", "+++ now"]


def test_the_guard_is_run_over_the_recorded_reply(owner: Member, openai_configured: ModelServer) -> None:
    openai_configured.reply("prose")
    first, _ = converse(owner, *QUESTIONS)
    found = replay(first["meta"]["turn_id"])
    (guarded,) = [one for one in found.compared if one.name.startswith("guard")]
    assert (guarded.recorded, guarded.same) == ("this answer", True)


def test_content_that_is_gone_cannot_be_asked_again(asked: Turn) -> None:
    TurnContent.objects.all().delete()
    with pytest.raises(Gone):
        replay(asked.pk)


def test_bad_input(asked: Turn) -> None:
    with pytest.raises(NotFound):
        replay(uuid.uuid4())
    with pytest.raises(BadInput):
        replay(asked.pk, reason=" ")
