"""manage.py conversations: reconcile, export, forget."""

import io
import json
import stat
import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.models import Event, TurnContent
from audit.services import subject_ref_of
from chat.models import Session
from chat.stores.base import Message
from chat.stores.conversation import hot_stores
from tests.chat.asking import ask
from tests.conftest import process_reset, redis_use
from tests.services.process import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
QUESTION = "Is a planted-secret-4711 permitted?"
STRAY = [Message(1, "user", "stray"), Message(2, "assistant", "stray")]


def run(*arguments) -> str:
    out = io.StringIO()
    call_command("conversations", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def refused(*arguments) -> str:
    """What the command says when it fails, which for a caller in a shell is exit code 1."""
    out = io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("conversations", *arguments, stdout=out, stderr=io.StringIO())
    return f"{out.getvalue()}{raised.value}"


@pytest.fixture
def both(redis_configured, mongo_configured, flag):
    flag("CONV_STORE_PRIMARY", "redis")
    flag("CONV_DUAL_WRITE", True)
    return hot_stores()


@pytest.fixture
def conversation(owner, django_capture_on_commit_callbacks):
    """Two turns of the owner's, on record and in the stores."""
    session_id = str(uuid.uuid4())
    with django_capture_on_commit_callbacks(execute=True):
        ask(owner, QUESTION, session_id=session_id)
        ask(owner, "And outside?", session_id=session_id)
    return session_id


# reconcile


def test_stores_that_agree_with_the_record_are_said_to(both, conversation):
    assert run("reconcile") == "mongo: 1 same\nredis: 1 same\n"


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (lambda store, session_id: store.delete(session_id), "missing"),
        (lambda store, session_id: store.replace(session_id, STRAY, upto=2, ttl_seconds=60), "different"),
        (
            lambda store, session_id: store.append(
                session_id, [Message(5, "user", "of a later turn")], keep=9, ttl_seconds=60
            ),
            "different",
        ),
    ],
    ids=["missing", "other text", "ahead of the record"],
)
def test_a_store_that_differs_is_named_and_repaired_when_asked(both, conversation, spoil, finding):
    spoil(both["mongo"], uuid.UUID(conversation))
    told = refused("reconcile")
    assert f"{conversation} mongo: {finding}\n" in told
    assert "redis: 1 same" in told
    assert "1 differ from the record. Add --repair" in told
    assert f"{conversation} mongo: {finding}, repaired" in run("reconcile", "--repair")
    assert run("reconcile") == "mongo: 1 same\nredis: 1 same\n"


def test_what_is_left_of_a_deleted_conversation_is_found_and_removed(both, owner, conversation):
    # The stores are not told: as if they had been away.
    owner.client.delete(f"/chat/sessions/{conversation}")
    assert f"{conversation} redis: left over" in refused("reconcile", "--session", conversation)
    run("reconcile", "--repair")
    assert both["redis"].load(uuid.UUID(conversation), 10) == []
    assert run("reconcile") == "mongo: 1 same\nredis: 1 same\n"


def test_only_the_named_session_and_store_are_compared(both, conversation):
    other = Session.objects.create(
        id=uuid.uuid4(), subject_ref="x", created_at=timezone.now(), last_turn_at=timezone.now()
    )
    both["redis"].append(other.pk, STRAY, keep=4, ttl_seconds=60)
    assert run("reconcile", "--session", conversation, "--store", "redis") == "redis: 1 same\n"
    assert run("reconcile", "--session", conversation, "--store", "mongo", "--store", "redis").count("1 same") == 2
    assert "2 same" in run("reconcile", "--store", "mongo")


def test_what_is_older_than_the_retention_is_not_looked_at(both, conversation):
    Session.objects.update(last_turn_at=timezone.now() - timedelta(days=31))
    assert run("reconcile") == "There is no conversation to compare.\n"


def test_a_store_that_is_away_is_no_agreement(both, conversation, settings):
    redis_use(settings, f"redis://127.0.0.1:{free_port()}/0", timeout_ms=200)
    process_reset()
    assert f"{conversation} redis: not read" in refused("reconcile", "--repair")


def test_reconcile_says_what_cannot_be_compared(redis_configured, flag):
    assert "There is no such conversation" in refused("reconcile", "--session", str(uuid.uuid4()))
    assert "mongo is not configured here; configured: redis" in refused("reconcile", "--store", "mongo")
    flag("CONV_STORE_PRIMARY", "database")
    assert "--store redis" in refused("reconcile")


def test_without_a_hot_store_there_is_nothing_to_reconcile(db):
    assert "set REDIS_URL or MONGO_URL" in refused("reconcile")


@pytest.mark.parametrize("arguments", [("reconcile", "--session", "one"), ("export", "one"), ("forget", "one"), ()])
def test_what_is_no_session_is_refused(arguments):
    with pytest.raises(CommandError):
        run(*arguments)


# export


def test_an_export_holds_every_turn_and_is_on_record(conversation):
    exported = json.loads(run("export", conversation, "--reason", "ticket 12"))
    assert exported["session_id"] == conversation
    assert [turn["question"] for turn in exported["turns"]] == [QUESTION, "And outside?"]
    assert [turn["turn"] for turn in exported["turns"]] == [1, 2]
    assert exported["turns"][0]["answer"]["meta"]["turn"] == 1
    event = Event.objects.get(kind="export.made")
    facts = json.loads(bytes(event.body))["facts"]
    assert facts == {
        "what": "conversation",
        "session_id": conversation,
        "turns": 2,
        "reason": "ticket 12",
        "source": "command",
    }
    assert (event.stream, event.stream_seq) == (f"session:{conversation}", 3)


def test_an_export_to_a_file_is_for_its_owner_only_and_overwrites_nothing(conversation, tmp_path):
    path = tmp_path / "conversation.json"
    assert run("export", conversation, "--reason", "ticket 12", "--output", str(path)).startswith("2 turns written")
    assert len(json.loads(path.read_text(encoding="utf-8"))["turns"]) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "cannot be written: File exists" in refused("export", conversation, "--reason", "x", "--output", str(path))
    assert Event.objects.filter(kind="export.made").count() == 1


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_an_export_needs_a_reason(conversation, reason):
    assert "--reason must be" in refused("export", conversation, "--reason", reason)
    assert not Event.objects.filter(kind="export.made").exists()


def test_what_cannot_be_exported_leaves_no_event_and_no_file(conversation, tmp_path):
    path = tmp_path / "conversation.json"
    unknown = str(uuid.uuid4())
    assert "no such session" in refused("export", unknown, "--reason", "x", "--output", str(path))
    TurnContent.objects.update(sealed=b"\x00" * 64)
    assert "cannot be read any more" in refused("export", conversation, "--reason", "x", "--output", str(path))
    assert not path.exists()
    assert not Event.objects.filter(kind="export.made").exists()
    assert Session.objects.get().event_count == 2


# forget


def test_forgetting_erases_as_a_delete_does(both, owner, conversation, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        assert run("forget", conversation, "--yes") == "1 forgotten.\n"
    assert owner.get(f"/chat/sessions/{conversation}").status_code == 404
    assert not TurnContent.objects.exists()
    assert [store.load(uuid.UUID(conversation), 10) for store in both.values()] == [[], []]
    event = Event.objects.get(kind="session.deleted")
    facts = json.loads(bytes(event.body))["facts"]
    assert facts == {"session_id": conversation, "turns_erased": 2, "turns_held": 0}


@pytest.mark.parametrize("by", ["subject", "user"])
def test_all_conversations_of_one_person_are_forgotten_and_nobody_elses(by, owner, stranger, conversation):
    ask(owner, "Another?", session_id=str(uuid.uuid4()))
    ask(stranger, "Mine?", session_id=str(uuid.uuid4()))
    named = {"subject": subject_ref_of(owner.user), "user": owner.user.username}[by]
    assert run("forget", f"--{by}", named, "--yes") == "2 forgotten.\n"
    left = Session.objects.filter(deleted_at=None)
    assert [session.subject_ref for session in left] == [subject_ref_of(stranger.user)]


def test_without_yes_and_without_anyone_to_ask_nothing_is_erased(conversation, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "add --yes" in refused("forget", conversation)
    assert TurnContent.objects.count() == 2


@pytest.mark.parametrize(("answer", "left"), [("n", 2), ("", 2), ("y", 0)])
def test_whoever_is_there_is_asked(conversation, monkeypatch, answer, left):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    if left:
        assert "Nothing was erased" in refused("forget", conversation)
    else:
        run("forget", conversation)
    assert TurnContent.objects.count() == left


def test_what_is_not_there_cannot_be_forgotten(owner, conversation):
    run("forget", conversation, "--yes")
    for arguments in (("forget", conversation), ("forget", "--subject", "nobody"), ("forget", str(uuid.uuid4()))):
        assert "There is no such conversation" in refused(*arguments, "--yes")
    assert "no user nobody" in refused("forget", "--user", "nobody", "--yes")


def test_without_a_task_it_names_them():
    with pytest.raises(CommandError, match=r"reconcile\|export\|forget"):
        call_command("conversations")
