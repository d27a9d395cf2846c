import hashlib
import hmac
import json
import uuid

import pytest
from django.db import connection
from redis import Redis

from audit.content import ContentUnreadable
from audit.models import ContentKey, TurnContent
from audit.selectors import content_read
from audit.services import subject_ref_of
from chat.guard import draft_text
from chat.models import IdempotencyKey, Session, Turn
from tests.chat.asking import (
    QUESTION,
    answer_of,
    ask,
    content_held,
    converse,
    problem_of,
    recorded,
    turn_events,
)

pytestmark = pytest.mark.django_db
PLANTED = "Planted-wording-7f3c: how high must a handrail be in a house?"


def facts_of(event) -> dict:
    return json.loads(bytes(event.body))["facts"]


def commitment(salt: str, text: str) -> str:
    return hmac.new(bytes.fromhex(salt), text.encode(), hashlib.sha256).hexdigest()


def test_a_turn_is_one_event_one_row_of_facts_and_one_content(owner):
    before = recorded()
    ask(owner)
    after = recorded()
    assert {name: after[name] - before[name] for name in after} == dict.fromkeys(after, 1)


def test_the_rows_of_a_turn_point_at_each_other(owner):
    meta = ask(owner)["meta"]
    turn, event, content = Turn.objects.get(), turn_events().get(), TurnContent.objects.get()
    assert str(turn.pk) == str(content.pk) == meta["turn_id"] == facts_of(event)["turn_id"]
    assert turn.event_uid == event.uid
    assert str(turn.session_id) == str(content.session_id) == meta["session_id"]
    assert (event.stream, event.stream_seq) == (f"session:{meta['session_id']}", 1)


def test_the_facts_say_what_the_answer_says(owner):
    answer = ask(owner, path="/chat/enhanced")
    meta, turn, facts = answer["meta"], Turn.objects.get(), facts_of(turn_events().get())
    assert (turn.endpoint, turn.pipeline, turn.provider) == ("enhanced", meta["pipeline"], meta["provider"])
    assert (turn.seq, turn.degraded, turn.repaired, turn.references) == (1, False, False, meta["references"])
    assert (turn.prompt_tokens, turn.completion_tokens) == (meta["tokens"]["prompt"], meta["tokens"]["completion"])
    assert (turn.question_chars, turn.answer_chars) == (len(QUESTION), len(draft_text(answer)))
    assert (facts["endpoint"], facts["outcome"], facts["guard"]["outcome"]) == ("enhanced", "answered", "valid")


def test_the_facts_name_the_flags_in_force(owner, flag):
    flag("FEATURE_SUGGESTED_ACTIONS", False)
    flag("CONV_MAX_TURNS", 5)
    ask(owner)
    flags = facts_of(turn_events().get())["flags"]
    assert (flags["FEATURE_SUGGESTED_ACTIONS"], flags["CONV_MAX_TURNS"]) == (False, "5")


def test_the_event_is_the_askers_and_its_leaf_is_the_hash_of_its_body(owner):
    ask(owner)
    event = turn_events().get()
    assert event.actor_ref == subject_ref_of(owner.user)
    assert bytes(event.leaf) == hashlib.sha256(b"\x00" + bytes(event.body)).digest()
    assert owner.user.username not in bytes(event.body).decode()


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_the_content_is_the_answer_that_was_returned(owner, path):
    answer = ask(owner, path=path)
    held = content_held(answer["meta"]["turn_id"])
    assert held["question"] == QUESTION
    assert held["answer"] == answer
    assert held["answer_text"] == draft_text(answer)


def test_the_commitments_verify_with_the_salt_of_the_content(owner):
    held = content_held(ask(owner)["meta"]["turn_id"])
    facts = facts_of(turn_events().get())
    assert facts["question"] == {"chars": len(QUESTION), "hmac": commitment(held["salt"], QUESTION)}
    assert facts["answer"] == {
        "chars": len(held["answer_text"]),
        "hmac": commitment(held["salt"], held["answer_text"]),
    }


def test_two_turns_with_one_question_have_nothing_in_common(owner):
    converse(owner, QUESTION, QUESTION)
    facts = [facts_of(event) for event in turn_events()]
    assert facts[0]["question"]["hmac"] != facts[1]["question"]["hmac"]
    sealed = [bytes(row.sealed) for row in TurnContent.objects.all()]
    assert sealed[0] != sealed[1]


def test_content_moved_to_another_turn_does_not_decrypt(owner):
    converse(owner, "One?", "Two?")
    one, two = TurnContent.objects.select_related("key").order_by("seq")
    one.sealed = two.sealed
    with pytest.raises(ContentUnreadable):
        content_read(one)


def test_content_expires_after_the_retention_in_force(owner, flag):
    flag("CONV_TTL_SECONDS", 3600)
    ask(owner)
    row = TurnContent.objects.get()
    assert (row.expires_at - row.created_at).total_seconds() == 3600


def test_a_day_of_a_caller_has_one_key(owner, stranger):
    converse(owner, "One?", "Two?")
    ask(stranger)
    assert ContentKey.objects.count() == 2
    assert len(set(TurnContent.objects.values_list("key__wrapped", flat=True))) == 2


def test_the_raw_reply_is_kept_encrypted_when_the_guard_changed_it(owner, model):
    model.reply("text", text="Plain words instead of JSON.")
    held = content_held(ask(owner)["meta"]["turn_id"])
    assert held["raw"] == "Plain words instead of JSON."


def test_the_raw_reply_is_not_kept_twice_when_it_was_valid(owner, model):
    assert "raw" not in content_held(ask(owner)["meta"]["turn_id"])


def everything() -> str:
    """All rows of all tables, as text."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [bytes(v) if isinstance(v, memoryview) else v for row in cursor.fetchall() for v in row]
    return repr(found)


def test_no_text_of_a_turn_stands_in_any_table(owner, model):
    model.reply("text", text="Planted-reply-51aa, in plain words.")
    answer = answer_of(owner.post_json("/chat/enhanced", {"question": PLANTED}, Idempotency_Key="planted-key"))
    assert "Planted-reply-51aa" in str(answer["blocks"])
    rows = everything()
    assert answer["meta"]["turn_id"].replace("-", "") in rows.replace("-", "")
    assert "Planted" not in rows


def test_no_text_of_a_turn_stands_in_redis(owner, redis_configured, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        session_id = ask(owner, PLANTED)["meta"]["session_id"]
    with Redis(port=redis_configured.port) as client:
        dump = b"".join(key + (client.dump(key) or b"") for key in client.keys("*"))
    assert session_id.encode() in dump
    assert b"Planted" not in dump


def test_no_text_of_a_turn_stands_in_the_files_and_logs_of_a_server(gunicorn_server, redis_server):
    redis_server.flush()
    server = gunicorn_server({"REDIS_URL": redis_server.url, "CONV_STORE_PRIMARY": "redis"}, fresh=True)
    body = {"question": PLANTED, "session_id": str(uuid.UUID(int=3))}
    answers = [answer_of(server.post_json("/chat/enhanced", body)) for _ in range(2)]
    problem_of(server.post_json("/chat", {"question": PLANTED, "Planted": 1}), 400)
    files = b"".join(path.read_bytes() for path in server.var.rglob("*") if path.is_file())
    assert answers[1]["meta"]["turn_id"].replace("-", "").encode() in files
    assert b"Planted-wording" not in files
    assert "turn.completed" in server.logs()
    assert "Planted-wording" not in server.logs()
    assert server.token not in server.logs()


@pytest.fixture
def insert_fails(db):
    """insert_fails(table, away=True): inserts fail as on a full disk, else as by a constraint; until the rollback."""

    def fails(table: str, *, away: bool = True) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                # Of the errors that a trigger can cause, a missing table is an OperationalError.
                act = "INSERT INTO no_disk VALUES (1)" if away else "SELECT RAISE(ABORT, 'refused')"
                cursor.execute(f"CREATE TRIGGER insert_fails BEFORE INSERT ON {table} BEGIN {act}; END")
                return
            code = "disk_full" if away else "check_violation"
            cursor.execute(
                "CREATE FUNCTION insert_fails() RETURNS trigger AS "
                f"$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$ LANGUAGE plpgsql"
            )
            cursor.execute(
                f"CREATE TRIGGER insert_fails BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION insert_fails()"
            )

    return fails


def state() -> tuple:
    return recorded(), list(Session.objects.values("pk", "turn_count", "event_count", "last_turn_at"))


@pytest.mark.parametrize("table", ["audit_event", "turn_content", "chat_turn"])
@pytest.mark.parametrize("turns_before", [0, 2])
def test_when_one_insert_fails_nothing_of_the_turn_stays_and_nothing_is_answered(
    owner, insert_fails, turns_before, table
):
    session_id = str(uuid.uuid4())
    converse(owner, *["?"] * turns_before, session_id=session_id)
    before = state()
    insert_fails(table)
    response = owner.post_json("/chat", {"question": PLANTED, "session_id": session_id})
    problem_of(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert state() == before


@pytest.mark.parametrize("table", ["audit_event", "turn_content", "chat_turn"])
def test_a_turn_that_a_constraint_keeps_from_the_record_is_503_too(owner, insert_fails, table):
    before = state()
    insert_fails(table, away=False)
    response = owner.post_json("/chat", {"question": PLANTED})
    problem_of(response, 503)
    assert state() == before


def test_a_failed_record_sets_its_idempotency_key_free(owner, insert_fails):
    insert_fails("chat_turn")
    problem_of(owner.post_json("/chat", {"question": "?"}, Idempotency_Key="k"), 503)
    assert IdempotencyKey.objects.count() == 0


def test_a_failed_record_reaches_no_store(owner, insert_fails, redis_configured, django_capture_on_commit_callbacks):
    insert_fails("chat_turn")
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        problem_of(owner.post_json("/chat", {"question": "?"}), 503)
    assert callbacks == []
    with Redis(port=redis_configured.port) as client:
        assert client.keys("onesource:conv:*") == []
