"""Erasing a person: texts, keys and the link from the account go; the evidence stays, and so does what is held."""

import re
import threading
import uuid
from datetime import time

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session as SignIn
from django.db import DatabaseError, connection, transaction
from knox.models import AuthToken
from redis import Redis

from audit.erasing import content_erase
from audit.files import files_clean
from audit.holds import hold_place, hold_release
from audit.models import ContentKey, Event, HeldContent, SubjectAlias, TurnContent
from audit.retention import purge_run
from audit.selectors import content_for_review, content_gone, content_read
from audit.selectors import facts_of as facts_in
from audit.services import subject_ref_of
from chat import erasing
from chat.erasing import subject_erase, subject_find
from chat.models import IdempotencyKey, Session, Turn
from chat.services import turn_answer, turn_prepare
from chat.tokens import token_create, token_ref
from flags import snapshot
from flags.snapshot import Subject
from onesource.errors import BadInput, Conflict, NotFound, Unavailable
from tests.audit.contents import PLANTED, facts_of, postgres_directory, refused, sqlite_bytes, trail
from tests.cast import Member, member_make
from tests.chat.asking import QUESTION, ask, converse, problem_of
from tests.chat.streaming import ended_badly, events_of, eventually, model_env, paused_stream, rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("many")]
ERASED_EVENT = "NEW.kind = 'subject.erased'"


def erase(subject_ref: str, **options):
    given = {"reason": "asked for it", "actor_ref": "f" * 32, "source": "tests", **options}
    return subject_erase(subject_ref=subject_ref, **given)


@pytest.fixture
def ref(owner) -> str:
    """The pseudonym of the owner, who has asked in two sessions; the stranger has asked as well."""
    converse(owner, QUESTION, "And outside?")
    owner.post_json("/chat", {"question": f"Is {PLANTED} permitted?"}, Idempotency_Key="once")
    return subject_ref_of(owner.user)


def prepared(subject_ref: str, session_id: uuid.UUID | None = None):
    return turn_prepare(
        subject=Subject(subject_ref),
        question=QUESTION,
        session_id=session_id,
        endpoint="chat",
        flags=snapshot.current(),
    )


def signed_in_again(member: Member) -> Member:
    return Member(member.user, token_create(user=member.user, lifetime=None, source="tests"))


def left_of(subject_ref: str) -> dict[str, int]:
    models = (ContentKey, SubjectAlias, IdempotencyKey)
    counted = {model.__name__: model.objects.filter(subject_ref=subject_ref).count() for model in models}
    contents = TurnContent.objects.filter(key__subject_ref=subject_ref).count()
    return counted | {"TurnContent": contents, "sessions": Session.objects.filter(deleted_at=None).count()}


NOTHING = {"ContentKey": 0, "SubjectAlias": 0, "IdempotencyKey": 0, "TurnContent": 0, "sessions": 0}


def test_all_of_a_person_goes_and_the_evidence_stays(ref) -> None:
    evidence, turns = trail(), list(Turn.objects.order_by("created_at").values())
    erased = erase(ref)
    assert (erased.sessions, erased.turns, erased.keys, erased.held, erased.files_clean) == (2, 3, 1, 0, True)
    assert left_of(ref) == NOTHING
    assert trail()[: len(evidence)] == evidence
    assert list(Turn.objects.order_by("created_at").values()) == turns
    assert facts_of("subject.erased") == [
        {
            "subject_ref": ref, "sessions": 2, "turns": 3, "keys": 1, "held": 0, "reason": "asked for it",
            "source": "tests",
        }
    ]  # fmt: skip


def test_others_keep_all_of_theirs(ref, stranger) -> None:
    session_id = ask(stranger)["meta"]["session_id"]
    erase(ref)
    assert len(stranger.get(f"/chat/sessions/{session_id}").json()["conversation"]) == 1
    assert SubjectAlias.objects.filter(user=stranger.user).exists()


def test_the_account_stays_and_goes_on_under_another_pseudonym(ref, owner) -> None:
    session_id = str(Session.objects.first().pk)
    erase(ref)
    problem_of(owner.get("/chat/sessions"), 401)
    owner = signed_in_again(owner)
    assert owner.get("/chat/sessions").json()["results"] == []
    problem_of(owner.post_json("/chat", {"question": QUESTION, "session_id": session_id}), 404, "session_not_found")
    ask(owner)
    assert subject_ref_of(owner.user) != ref
    assert TurnContent.objects.get().key.subject_ref == subject_ref_of(owner.user)


def test_again_there_is_nothing_to_erase_or_to_record(ref) -> None:
    erase(ref)
    again = erase(ref)
    assert (again.sessions, again.turns, again.keys) == (0, 0, 0)
    assert len(facts_of("subject.erased")) == 1


def test_who_was_deleted_as_a_user_before_is_erased_by_pseudonym(ref, owner) -> None:
    owner.user.delete()
    assert subject_find(ref) == ref
    assert erase(ref).turns == 3
    assert left_of(ref) == NOTHING


@pytest.mark.parametrize("reason", ["", " ", "x" * 501])
def test_without_a_reason_nothing_is_erased(ref, reason) -> None:
    with pytest.raises(BadInput):
        erase(ref, reason=reason)
    assert TurnContent.objects.count() == 3


def test_a_person_is_found_by_name_and_by_pseudonym(ref, owner) -> None:
    assert subject_find("owner") == subject_find(ref) == ref
    for unknown in ("nobody", "", "0" * 32):
        with pytest.raises(NotFound):
            subject_find(unknown)


def test_a_name_that_is_anothers_pseudonym_is_not_guessed(ref) -> None:
    member_make(ref)
    with pytest.raises(Conflict):
        subject_find(ref)


def test_nobody_is_erased_by_a_pseudonym_that_is_nobodys() -> None:
    with pytest.raises(NotFound):
        erase("0" * 32)
    assert facts_of("subject.erased") == []


def test_it_is_told_how_far_it_is(ref) -> None:
    told = []
    erase(ref, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_a_reviewer_is_told_when_it_was(ref) -> None:
    session_id = str(Session.objects.first().pk)
    erase(ref)
    gone = content_gone(session_id=session_id, subject_ref=ref, expires_at=None)
    assert gone is not None
    assert gone.why == "deleted"
    assert content_gone(session_id="", subject_ref=ref, expires_at=None).why == "erased"


# What else would tell whose the pseudonym was


def test_nothing_of_the_account_leads_to_the_old_pseudonym(ref, owner, stranger, admin) -> None:
    assert owner.browser.get("/").status_code == 200
    assert stranger.browser.get("/").status_code == 200
    owner.user.refresh_from_db()
    assert owner.user.last_login
    made = owner.user.date_joined
    log = LogEntry.objects.log_actions
    log(admin.user.pk, User.objects.filter(pk=owner.user.pk), CHANGE, "[]")
    log(admin.user.pk, AuthToken.objects.filter(user=owner.user), CHANGE, "[]")
    log(owner.user.pk, Group.objects.all()[:1], CHANGE, "[]")
    log(admin.user.pk, User.objects.filter(pk=stranger.user.pk), CHANGE, "[]")
    log(admin.user.pk, AuthToken.objects.filter(user=stranger.user), CHANGE, "[]")
    digest = AuthToken.objects.get(user=owner.user).digest
    before = Event.objects.latest("pk").pk

    erase(ref)

    assert not AuthToken.objects.filter(user=owner.user).exists()
    assert owner.get("/chat/sessions").status_code == 401
    assert [row.get_decoded()["_auth_user_id"] for row in SignIn.objects.all()] == [str(stranger.user.pk)]
    assert AuthToken.objects.filter(user=stranger.user).exists()
    left = list(LogEntry.objects.order_by("pk").values_list("object_repr", flat=True))
    assert len(left) == 2
    assert all(text.endswith("stranger") for text in left)
    owner.user.refresh_from_db()
    assert (owner.user.last_login, owner.user.date_joined.time(), owner.user.is_active) == (None, time(0), True)
    assert owner.user.date_joined.date() == made.date()
    revoked = Event.objects.filter(pk__gt=before, kind="token.revoked").get()
    assert facts_in(revoked)["token"] == token_ref(digest)
    assert SubjectAlias.objects.filter(user=owner.user).count() == 0

    new = subject_ref_of(owner.user)
    token_create(user=owner.user, lifetime=None, source="tests")
    with_both = [event for event in Event.objects.all() if {ref, new} <= {*re.findall("[0-9a-f]{32}", str(event.body))}]
    assert with_both == []
    assert [e.kind for e in Event.objects.filter(pk__gt=before) if new in str(bytes(e.body))] == ["token.created"]


def test_tokens_made_while_a_person_is_erased_are_under_the_new_pseudonym(ref, owner) -> None:
    def make() -> None:
        try:
            token_create(user=owner.user, lifetime=None, source="tests")
        finally:
            connection.close()

    thread = threading.Thread(target=make)
    with transaction.atomic():
        erase(ref)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(10)
    assert facts_of("token.created")[-1]["for_ref"] == subject_ref_of(owner.user) != ref


# What is held


def test_what_is_held_stays_with_its_keys_until_the_release(ref, owner) -> None:
    (answer,) = converse(owner, QUESTION)
    session_id = uuid.UUID(answer["meta"]["session_id"])
    hold_place(session_id=session_id, reason="case", actor_ref="", source="tests")
    erased = erase(ref)
    assert (erased.turns, erased.keys, erased.held) == (3, 0, 1)
    assert left_of(ref) == NOTHING | {"ContentKey": 1}
    purge_run()
    assert content_read(content_for_review(uuid.UUID(answer["meta"]["turn_id"])))["question"] == QUESTION
    hold_release(session_id=session_id, reason="closed", actor_ref="", source="tests")
    assert not HeldContent.objects.exists()
    assert left_of(ref) == NOTHING


# In steps


def test_many_sessions_go_in_steps_and_a_killed_run_is_taken_up_again(owner, monkeypatch) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    for _ in range(5):
        ask(owner)
    ref = subject_ref_of(owner.user)
    third = "NEW.kind = 'session.deleted' AND (SELECT count(*) FROM chat_session WHERE deleted_at IS NOT NULL) > 2"
    if connection.vendor == "sqlite":
        with refused("audit_event", third), pytest.raises(DatabaseError):
            erase(ref)
        assert TurnContent.objects.count() == 3
    with refused("audit_event", ERASED_EVENT), pytest.raises(DatabaseError):
        erase(ref)
    # Each session on its own is erased and recorded; what makes it unrecoverable is not done by halves.
    assert (TurnContent.objects.count(), len(facts_of("session.deleted"))) == (0, 5)
    assert left_of(ref) == NOTHING | {"ContentKey": 1, "SubjectAlias": 1}
    assert erase(ref).keys == 1
    assert left_of(ref) == NOTHING


# Turns under way


@pytest.mark.parametrize("existing", [True, False], ids=["in an old session", "in a new one"])
@pytest.mark.parametrize("key", [True, False], ids=["of a day with a key", "the first of the day"])
def test_a_turn_under_way_leaves_nothing(owner, existing, key) -> None:
    session_id = uuid.UUID(ask(owner)["meta"]["session_id"])
    ref = subject_ref_of(owner.user)
    if not key:
        with transaction.atomic():
            content_erase(session_id=session_id)
        ContentKey.objects.all().delete()
    turn = prepared(ref, session_id if existing else None)
    erase(ref)
    with pytest.raises(NotFound) as raised:
        turn_answer(turn)
    assert raised.value.code == "session_not_found"
    assert left_of(ref) == NOTHING
    assert Turn.objects.count() == 1


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("first", [True, False], ids=["the first of the day", "of a day with a key"])
def test_a_turn_that_is_being_recorded_leaves_nothing(owner, first) -> None:
    """It has its session and its key, and has yet to commit, when the erasure comes."""
    ref = subject_ref_of(owner.user)
    if not first:
        ask(owner)
    turn = prepared(ref)
    outcome = []

    def record() -> None:
        try:
            turn_answer(turn)
        except (NotFound, Unavailable) as error:
            outcome.append(error.code)
        finally:
            connection.close()

    def waiting() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'chat_turn'::regclass")
            return bool(cursor.fetchone()[0])

    recording = threading.Thread(target=record)
    eraser = threading.Thread(target=lambda: (erase(ref), connection.close()))
    with transaction.atomic(), connection.cursor() as cursor:
        # Where a turn comes to after its content.
        cursor.execute("LOCK TABLE chat_turn IN SHARE MODE")
        recording.start()
        eventually(waiting)
        eraser.start()
        eraser.join(1)
        # The maker of a key holds the alias, so that the erasure waits for it; else the key is gone before the commit.
        assert eraser.is_alive() is first
    recording.join()
    eraser.join()
    assert outcome == ([] if first else ["not_recorded"])
    assert left_of(ref) == NOTHING
    assert len(facts_of("subject.erased")) == 1


def test_a_person_who_goes_on_asking_is_erased_all_the_same(owner) -> None:
    ask(owner)
    ref = subject_ref_of(owner.user)
    stop = threading.Event()
    statuses = []

    def go_on() -> None:
        try:
            while not stop.is_set():
                statuses.append(owner.post_json("/chat", {"question": QUESTION}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(statuses) >= 4)
        erase(ref)
        before = len(statuses)
        eventually(lambda: len(statuses) >= before + 4)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {**left_of(ref), "sessions": 0} == NOTHING
    assert not TurnContent.objects.filter(key__subject_ref=ref).exists()
    assert set(statuses) <= {200, 401, 404, 503}
    # Its token went with the rest; a turn that was under way then may have been the last to end.
    assert owner.post_json("/chat", {"question": QUESTION}).status_code == 401
    ask(signed_in_again(owner))


ERASE = """
from chat.erasing import subject_erase, subject_find
print(subject_erase(subject_ref=subject_find("owner"), reason="asked", actor_ref="", source="tests"))
"""


def test_a_stream_under_way_ends_and_keeps_no_text(gunicorn_server, model_server) -> None:
    server = gunicorn_server(model_env(model_server), workers=1, fresh=True)
    stream = paused_stream(server, model_server, 2, question=f"Which {PLANTED}?")
    session_id = stream.events[0].data["session_id"]
    server.shell(ERASE)
    model_server.released.set()
    assert ended_badly(stream.collect())["status"] in (404, 410)
    kinds = eventually(lambda: [k for k, _ in events_of(server, session_id)][2:] and events_of(server, session_id))
    assert [kind for kind, _ in kinds] == ["turn.started", "session.deleted", "turn.aborted"]
    for table in ("turn_content", "content_key", "chat_stream_event"):
        eventually(lambda table=table: not rows(server, f"SELECT 1 FROM {table}"))
    assert {bytes(sealed) for (sealed,) in rows(server, "SELECT sealed FROM chat_stream")} <= {b""}


# Stores and files


def test_no_copy_is_left_in_redis(owner, redis_configured) -> None:
    session_id = converse(owner, QUESTION, "And outside?")[0]["meta"]["session_id"]
    with Redis(port=redis_configured.port) as client:
        assert list(client.scan_iter(f"*{session_id}*"))
        erase(subject_ref_of(owner.user))
        assert list(client.scan_iter(f"*{session_id}*")) == []


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_nothing_of_it_is_left_in_the_files_of_sqlite(ref, owner) -> None:
    alias = SubjectAlias.objects.get(user=owner.user)
    # To the microsecond: the row of a session may begin with the same pseudonym and second.
    pairing = f"{ref}{alias.created_at:%Y-%m-%d %H:%M:%S.%f}".encode()
    sought = [bytes(row.sealed)[:40] for row in TurnContent.objects.all()]
    sought += [bytes(key.wrapped) for key in ContentKey.objects.all()] + [pairing]
    held = sqlite_bytes()
    assert all(text in held for text in sought)
    assert PLANTED.encode() not in held
    assert erase(ref).files_clean
    held = sqlite_bytes()
    assert [text for text in sought if text in held] == []


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_a_reader_in_the_way_of_the_checkpoint_is_told_and_the_next_run_makes_good(ref) -> None:
    sealed = bytes(TurnContent.objects.first().sealed)[:40]
    reading, over = threading.Event(), threading.Event()

    def read() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute("SELECT count(*) FROM turn_content")
                cursor.fetchall()
                reading.set()
                over.wait(10)
                cursor.execute("ROLLBACK")
        finally:
            connection.close()

    thread = threading.Thread(target=read)
    thread.start()
    reading.wait(10)
    assert erase(ref).files_clean is False
    over.set()
    thread.join()
    assert sealed in sqlite_bytes()
    assert purge_run().finished
    assert sealed not in sqlite_bytes()


@pytest.mark.skipif("connection.vendor != 'postgresql'")
def test_no_text_is_in_the_files_of_postgresql(ref) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    erase(ref)
    assert files_clean("content_key")
    found = [
        path
        for path in postgres_directory().rglob("*")
        if path.is_file() and path.stat().st_size < 64 << 20 and PLANTED.encode() in path.read_bytes()
    ]
    assert found == []
