"""Which arm of each rollout a turn was in, and that a turn without an answer is not forgotten."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
from knox.models import AuthToken

from audit.services import salt_make, subject_ref_of
from chat.leftovers import leftovers_sweep
from chat.models import Stream, Turn, TurnFailure
from chat.pipeline import provide
from chat.services import turn_answer, turn_prepare
from chat.streaming.ending import TurnEnded, question_seal
from chat.streaming.services import streams_silent, streams_sweep
from flags import snapshot
from flags.models import Flag
from flags.snapshot import Subject
from tests.chat.asking import QUESTION, ask, problem_of

pytestmark = pytest.mark.django_db

LISTED, OFF = "FEATURE_SUGGESTED_ACTIONS", "FEATURE_DYNAMIC_PROMPTS"
ARMS = {"USE_UNIFIED_PIPELINE": True, LISTED: True, OFF: False}


@pytest.fixture
def canary(owner: Any, flag: Any) -> Any:
    """The owner, who alone has one flag on; another is off for all."""
    flag(OFF, False)
    row = Flag.objects.get(name=LISTED)
    row.everyone = None
    row.save()
    row.users.add(owner.user)
    snapshot.reset()
    return owner


class CrashingProvider:
    """Provider code with a fault of its own."""

    name = "crashing"

    def complete(self, request: Any) -> Any:
        raise KeyError("choices")


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provide, "configured", CrashingProvider)


@pytest.fixture
def table_is_full() -> Any:
    """Inserts into a table fail; where the database says so itself."""

    def fill(table: str) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                act = "INSERT INTO no_disk VALUES (1)"
                cursor.execute(f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN {act}; END")
                return
            cursor.execute(
                f"CREATE FUNCTION full_{table}() RETURNS trigger AS "
                "$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'disk_full'; END $$ LANGUAGE plpgsql"
            )
            cursor.execute(
                f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION full_{table}()"
            )

    return fill


def kept() -> list[dict[str, Any]]:
    return list(TurnFailure.objects.values("endpoint", "pipeline", "arms", "code"))


def test_a_turn_says_which_arm_its_asker_was_in(canary: Any, stranger: Any) -> None:
    ask(canary)
    ask(stranger)
    assert [turn.arms for turn in Turn.objects.order_by("created_at")] == [ARMS, {**ARMS, LISTED: False}]
    assert kept() == []


def test_a_crash_is_kept_with_its_arms_and_still_is_the_error(canary: Any, crashing: None) -> None:
    canary.client.raise_request_exception = False
    problem_of(canary.post_json("/chat/enhanced", {"question": QUESTION}), 500, "internal_error")
    assert kept() == [{"endpoint": "enhanced", "pipeline": "unified", "arms": ARMS, "code": "KeyError"}]
    assert not Turn.objects.exists()


def test_a_turn_that_could_not_be_recorded_is_kept(canary: Any, table_is_full: Any) -> None:
    table_is_full("chat_turn")
    problem_of(canary.post_json("/chat", {"question": QUESTION}), 503, "database_unavailable")
    assert [(row["code"], row["arms"]) for row in kept()] == [("database_unavailable", ARMS)]


def test_a_failure_that_cannot_be_kept_does_not_hide_the_first(canary: Any, crashing: None, table_is_full: Any) -> None:
    table_is_full("chat_turn_failure")
    canary.client.raise_request_exception = False
    problem_of(canary.post_json("/chat", {"question": QUESTION}), 500, "internal_error")
    assert kept() == []


def test_the_callers_own_errors_are_not_kept(owner: Any) -> None:
    problem_of(owner.post_json("/chat", {"question": ""}), 400)
    prepared = turn_prepare(
        subject=Subject(subject_ref_of(owner.user), owner.user.pk),
        question=QUESTION,
        session_id=None,
        endpoint="chat",
        flags=snapshot.current(),
    )

    def ended_elsewhere() -> None:
        raise TurnEnded()

    with pytest.raises(TurnEnded):
        turn_answer(prepared, settle=ended_elsewhere)
    assert kept() == []


def test_a_stream_whose_worker_died_is_a_failure_of_the_arms_it_began_with(owner: Any, flag: Any) -> None:
    begun = {**ARMS, OFF: True}
    turn_id = uuid.uuid4()
    Stream.objects.create(
        turn_id=turn_id,
        session_id=uuid.uuid4(),
        subject_ref=subject_ref_of(owner.user),
        endpoint="chat",
        pipeline="unified",
        sealed=question_seal(turn_id, QUESTION, salt_make()),
        arms=begun,
    )
    Stream.objects.update(heartbeat_at="2026-01-01T00:00:00Z")
    flag(OFF, False)
    streams_sweep(streams_silent())
    assert [(row["code"], row["arms"]) for row in kept()] == [("orphaned", begun)]
    turn = Turn.objects.get(pk=turn_id)
    assert (turn.outcome, turn.arms) == ("aborted", begun)


def test_failures_are_kept_for_thirty_days(db):
    now = timezone.now()
    for days in (29, 31, 32):
        TurnFailure.objects.create(
            endpoint="chat", pipeline="unified", arms={}, code="x", at=now - timedelta(days=days)
        )
    leftovers_sweep()
    assert TurnFailure.objects.get().at == now - timedelta(days=29)


def test_expired_tokens_and_sign_ins_are_deleted(owner, stranger):
    assert owner.browser.session.session_key
    AuthToken.objects.filter(user=owner.user).update(expiry=timezone.now() - timedelta(seconds=1))
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert stranger.browser.session.session_key
    leftovers_sweep()
    assert [token.user for token in AuthToken.objects.all()] == [stranger.user]
    assert Session.objects.count() == 1
