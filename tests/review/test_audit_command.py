"""`manage.py audit` as its user calls it: what it prints, and its exit status."""

import io
import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError

from audit import notes
from audit.models import Checkpoint, Event, LegalHold, SubjectAlias, TurnContent
from audit.offline import verify
from audit.sealing import log_seal
from audit.services import event_record
from audit.signing import signer, verifiers
from chat.models import Session, Turn
from tests.cast import Member
from tests.chat.asking import problem_of
from tests.onesource.boot import boot
from tests.review.turns import REASON, REFUSALS
from tests.tampering import tamper, triggers_drop

pytestmark = pytest.mark.django_db


def audit(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_verify_says_that_the_trail_is_whole(asked: Turn) -> None:
    log_seal()
    told = audit("verify")
    assert "The trail is whole." in told
    assert f"{Event.objects.count()} events (0 waiting" in told
    assert "AUDIT_CHECKPOINT_DIR" in told


def test_verify_names_what_is_wrong_and_exits_with_1(asked: Turn, capsys: Any) -> None:
    log_seal()
    tamper("UPDATE audit_event SET kind = 'login.failed' WHERE uid = (SELECT event_uid FROM chat_turn)")
    triggers_drop()
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit", "verify", stdout=out)
    assert ended.value.code == 1
    assert f"column_edited        event {asked.event_uid}" in out.getvalue()
    assert "trigger" in out.getvalue()
    assert "The trail is NOT what was recorded" in out.getvalue()


def test_verify_as_json(asked: Turn) -> None:
    log_seal()
    tamper("UPDATE chat_turn SET model = 'another'")
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert (report["ok"], report["counts"]) == (False, {"turn_edited": 1})
    assert report["findings"][0]["where"] == f"turn {asked.pk}"


@pytest.mark.parametrize("value", ["{}", "[1]", '[{"text": 3}]', "null"])
def test_garbage_in_a_turns_columns_is_named(asked: Turn, value: str) -> None:
    log_seal()
    tamper('UPDATE chat_turn SET "references" = %s', value)
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"turn_edited          turn {asked.pk}" in out.getvalue()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("degraded", True), ("repaired", True), ("arms", "{}"), ("question_chars", 7), ("answer_chars", 7),
        ("context", "lost"), ("history_turns", 9), ("repair_codes", '["FENCE"]'), ("outcome", "refused"),
        ("created_at", "2026-01-01 00:00:00+00:00"), ("prompt_tokens", 7), ("first_token_us", 7),
    ],
)  # fmt: skip
def test_every_edited_fact_of_a_turn_is_named(asked: Turn, column: str, value: Any) -> None:
    log_seal()
    tamper(f"UPDATE chat_turn SET {column} = %s", value)
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"turn_edited          turn {asked.pk}" in out.getvalue()


def test_a_conversation_that_was_given_to_somebody_else_is_named(asked: Turn) -> None:
    log_seal()
    tamper("UPDATE chat_session SET subject_ref = %s", "b" * 32)
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert "session__subject_ref" in out.getvalue()


def second_event(asked: Turn, **changes: Any) -> Event:
    """As somebody could add it who has the product's own rights: sound in itself, with the next number."""
    body = json.loads(bytes(Event.objects.get(uid=asked.event_uid).body))
    body["facts"] |= changes
    Session.objects.filter(pk=asked.session_id).update(event_count=2)
    return event_record(
        kind=body["kind"], stream=body["stream"], actor_ref=body["actor"], facts=body["facts"], stream_seq=2,
        at=datetime.fromisoformat(body["at"]),
    )  # fmt: skip


def test_a_second_event_in_the_place_of_the_recorded_one_is_named(asked: Turn) -> None:
    event = second_event(asked, model="another")
    tamper("UPDATE chat_turn SET model = 'another'")
    Turn.objects.update(event_uid=event.uid)
    log_seal()
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"not as event {asked.event_uid} recorded it" in out.getvalue()


@pytest.mark.parametrize("turn_id", [None, "x", 3, {}])
def test_an_event_that_names_no_turn_is_named(asked: Turn, turn_id: Any) -> None:
    event = second_event(asked, turn_id=turn_id)
    log_seal()
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"turn_nameless        event {event.uid}" in out.getvalue()


def test_a_turn_whose_conversation_was_deleted_while_it_streamed_is_no_finding(asked: Turn) -> None:
    facts = {"ended": "session_deleted", "turn_id": str(uuid.uuid4()), "session_id": str(asked.session_id)}
    facts |= {"endpoint": "chat", "pipeline": "unified", "outcome": "aborted", "question": {}}
    Session.objects.filter(pk=asked.session_id).update(event_count=2)
    stream = f"session:{asked.session_id}"
    event_record(kind="turn.aborted", stream=stream, actor_ref="", facts=facts, stream_seq=2)
    log_seal()
    assert "The trail is whole" in audit("verify")


def test_facts_without_an_event_and_events_without_facts_are_named(asked: Turn) -> None:
    log_seal()
    tamper("UPDATE chat_turn SET event_uid = session_id")
    with pytest.raises(SystemExit):
        audit("verify")
    Turn.objects.all().delete()
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"turn_deleted         turn {asked.pk}" in out.getvalue()


@pytest.mark.skipif("postgres" in settings.DATABASES["default"]["ENGINE"], reason="PostgreSQL takes no such value")
@pytest.mark.parametrize("spoil", ["created_at = 'x'", "created_at = 5", "id = 'zzz', event_uid = 'yyy'"])
def test_a_value_that_none_of_ours_can_be_does_not_end_it(asked: Turn, spoil: str) -> None:
    log_seal()
    tamper(f"UPDATE chat_turn SET {spoil}")
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert "turn_edited" in out.getvalue() or "turn_unrecorded      turn zzz" in out.getvalue()


def test_a_session_whose_counter_is_ahead_of_its_events_is_named(asked: Turn) -> None:
    log_seal()
    tamper("UPDATE chat_session SET event_count = 5")
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("audit", "verify", stdout=out)
    assert f"stream_truncated     stream session:{asked.session_id}" in out.getvalue()


def test_seal_and_checkpoint(asked: Turn) -> None:
    with pytest.raises(CommandError, match="no checkpoint yet"):
        audit("checkpoint")
    assert f"the log has {Event.objects.count() + 1}." in audit("seal")
    note = audit("checkpoint")
    assert note == Checkpoint.objects.get().note
    notes.note_open(note, verifiers())
    assert signer().vkey in audit("checkpoint", "--keys")


def test_export_writes_a_new_file_of_what_the_filters_find(asked: Turn, tmp_path: Path) -> None:
    log_seal()
    path = tmp_path / "turns.csv"
    audit("export", "--output", str(path), "--reason", REASON, "--turn", str(asked.pk))
    assert str(asked.pk) in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(CommandError, match="already"):
        audit("export", "--output", str(path), "--reason", REASON)
    audit("export", "--output", str(tmp_path / "none.csv"), "--reason", REASON, "--outcome", "refused")
    assert str(asked.pk) not in (tmp_path / "none.csv").read_text()


def export_fails(path: Path, told: str, *more: str) -> None:
    """Nothing is on record, and no file stands in the way of the next try."""
    before = Event.objects.filter(kind="export.made").count()
    with pytest.raises(CommandError, match=told):
        audit("export", "--output", str(path), "--reason", REASON, *more)
    assert not path.exists()
    assert Event.objects.filter(kind="export.made").count() == before


def test_an_export_that_fails_leaves_no_file(asked: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "turns.zip"
    export_fails(path, "not yet in the log")
    export_fails(path, "Expected one of", "--outcome", "fine")
    log_seal()
    monkeypatch.setattr(verify, "FILES_LIMIT", 7)
    export_fails(path, "verify.py reads. Narrow the time")
    monkeypatch.undo()
    tamper('DELETE FROM audit_leaf WHERE "index" = 0')
    export_fails(path, "nothing can be proved by it")


@REFUSALS
def test_an_export_that_cannot_be_recorded_leaves_no_file(asked: Turn, tmp_path: Path, refuse: Any, state: str) -> None:
    refuse("export.made", state)
    export_fails(tmp_path / "turns.csv", "Nothing is exported, because it could not be recorded")


def test_an_export_that_stops_half_way_leaves_no_part_of_a_file(
    asked: Turn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(*args: Any, **options: Any) -> Any:
        yield "recorded_at,turn_id\r\n"
        raise KeyboardInterrupt

    monkeypatch.setattr("review.management.commands.audit.turns_export", pieces)
    with pytest.raises(KeyboardInterrupt):
        audit("export", "--output", str(tmp_path / "turns.csv"), "--reason", REASON)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "--output", "x.pdf", "--reason", REASON], "must end in"),
        (["export", "--output", "x.csv", "--reason", REASON, "--content"], "--content goes into"),
        (["export", "--output", "x.csv", "--reason", "no"], "Say why"),
        (["export", "--output", "x.csv", "--reason", REASON, "--outcome", "fine"], "Expected one of"),
        (["export", "--output", "x.csv", "--reason", REASON, "--from", "yesterday"], "Expected a time"),
        (["export", "--output", "/nowhere/x.csv", "--reason", REASON], "cannot be written"),
        (["replay", str(uuid.uuid4()), "--reason", REASON], "no turn"),
        (["replay", "x", "--reason", REASON], "is not an id"),
        (["erase", "--subject", "nobody-at-all", "--reason", REASON, "--yes"], "no user or pseudonym"),
        (["hold", "place", "--reason", REASON], "needs the id of a session"),
        (["hold", "place", str(uuid.uuid4()), "--reason", REASON], "no such conversation"),
        (["hold", "release", str(uuid.uuid4()), "--reason", REASON], "under no legal hold"),
        (["seal", "now"], "unrecognized"),
        ([], "TASK"),
    ],
)
def test_bad_input_says_what_to_do(db: None, arguments: list[str], told: str) -> None:
    before = Event.objects.count()
    with pytest.raises(CommandError, match=told):
        audit(*arguments)
    assert Event.objects.count() == before


def test_hold_place_list_release(asked: Turn) -> None:
    assert "1 of its turns" in audit("hold", "place", str(asked.session_id), "--reason", REASON)
    assert str(asked.session_id) in audit("hold", "list")
    with pytest.raises(CommandError, match="already"):
        audit("hold", "place", str(asked.session_id), "--reason", REASON)
    assert "held no more" in audit("hold", "release", str(asked.session_id), "--reason", REASON)
    assert audit("hold", "list") == ""
    assert LegalHold.objects.get().released_at


def test_erase_asks_first(asked: Turn, owner: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    # The terminal's.
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    with pytest.raises(CommandError, match="Nothing was erased"):
        audit("erase", "--subject", owner.user.username, "--reason", REASON)
    assert TurnContent.objects.exists()
    assert "1 conversations, 1 turns, 1 keys" in audit(
        "erase", "--subject", owner.user.username, "--reason", REASON, "--yes"
    )
    assert not TurnContent.objects.exists()
    assert not SubjectAlias.objects.filter(user=owner.user).exists()
    # The token went with the link to the account.
    problem_of(owner.get(f"/chat/sessions/{asked.session_id}"), 401, "invalid_token")


def test_erase_without_anybody_to_ask_says_what_to_add(
    asked: Turn, owner: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with </dev/null, or from cron.
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(CommandError, match="nothing was erased: add --yes"):
        audit("erase", "--subject", owner.user.username, "--reason", REASON)
    assert TurnContent.objects.exists()


@REFUSALS
def test_what_the_database_refuses_is_told_without_a_traceback(
    asked: Turn, owner: Member, refuse: Any, state: str
) -> None:
    refuse("subject.erased", state)
    with pytest.raises(CommandError, match="The database cannot be reached, or it refused this: "):
        audit("erase", "--subject", owner.user.username, "--reason", REASON, "--yes")


@pytest.mark.parametrize("url", ["postgres://nobody@127.0.0.1:1/none", "sqlite:////nowhere/at/all.sqlite3"])
def test_a_database_that_is_away_is_told_without_a_traceback(tmp_path: Path, url: str) -> None:
    code = "from django.core.management import execute_from_command_line as e; e(['manage.py', 'audit', 'checkpoint'])"
    ended = boot(code, tmp_path, DATABASE_URL=url)
    assert ended.returncode == 1
    assert "CommandError: The database cannot be reached, or it refused this: " in ended.stderr
    assert "Traceback" not in ended.stderr
