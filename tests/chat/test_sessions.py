import base64
import uuid
from datetime import timedelta
from urllib.parse import quote

import pytest
from django.db.models import F
from django.utils import timezone

from audit.models import Event, TurnContent
from audit.services import subject_ref_of
from chat.models import Session, Turn
from tests.chat.asking import ask, converse, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
UNKNOWN = f"/chat/sessions/{uuid.UUID(int=9)}"


def sessions_make(member, count: int, *, apart: timedelta = timedelta(minutes=1)) -> None:
    now = timezone.now()
    ref = subject_ref_of(member.user)
    Session.objects.bulk_create(
        Session(id=uuid.uuid4(), subject_ref=ref, turn_count=1, created_at=now, last_turn_at=now - n * apart)
        for n in range(count)
    )


def pages(member) -> list[list[dict]]:
    found, url = [], "/chat/sessions"
    while url:
        page = member.get(url).json()
        found.append(page["results"])
        url = page["next"]
    return found


def test_the_list_has_the_latest_session_first(owner):
    first, second = ask(owner)["meta"]["session_id"], ask(owner)["meta"]["session_id"]
    ask(owner, session_id=first)
    found = owner.get("/chat/sessions").json()["results"]
    assert [(row["session_id"], row["turns"]) for row in found] == [(first, 2), (second, 1)]
    assert set(found[0]) == {"session_id", "turns", "created_at", "last_turn_at"}


def test_the_list_holds_no_strangers_sessions(owner, stranger):
    ask(stranger)
    assert owner.get("/chat/sessions").json()["results"] == []


@pytest.mark.parametrize("apart", [timedelta(minutes=1), timedelta(0)], ids=["apart", "all at once"])
def test_the_cursor_leads_through_all_sessions_once(owner, apart):
    sessions_make(owner, 120, apart=apart)
    found = pages(owner)
    ids = [row["session_id"] for page in found for row in page]
    assert [len(page) for page in found] == [50, 50, 20]
    assert len(set(ids)) == 120


def test_no_session_is_on_two_pages_when_one_is_asked_between(owner):
    sessions_make(owner, 60)
    first = owner.get("/chat/sessions").json()
    ask(owner)
    second = owner.get(first["next"]).json()
    assert not {row["session_id"] for row in first["results"]} & {row["session_id"] for row in second["results"]}
    assert (len(second["results"]), second["next"]) == (10, None)


def test_a_cursor_of_one_member_shows_another_nothing_of_theirs(owner, stranger):
    sessions_make(owner, 60)
    cursor = owner.get("/chat/sessions").json()["next"]
    assert stranger.get(cursor).json()["results"] == []


@pytest.mark.parametrize("count", [20, 40])
def test_the_list_costs_the_same_for_n_and_2n(owner, count, django_assert_num_queries):
    sessions_make(owner, count)
    owner.get("/chat/sessions")
    # 1 token and user, 2 pseudonym, 3 the page.
    with django_assert_num_queries(3):
        assert len(owner.get("/chat/sessions").json()["results"]) == count


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!",
        "%",
        "\x00",
        "\U0001f3d7",
        coded("p=yesterday"),
        coded("p=2026-13-45"),
        coded("p=\x00"),
        coded("p=9999999-01-01"),
        coded("o=-1"),
        coded("o=x"),
        coded("o=99999999999999999999"),
        coded("r=x"),
        coded("nothing"),
        coded("p=2026-01-01' OR 1=1 --"),
        base64.b64encode(b"p=\xff\xfe").decode(),
        "A" * 5000,
    ],
)
def test_a_cursor_that_we_did_not_give_is_400(owner, cursor):
    sessions_make(owner, 3)
    problem_of(owner.client.get(f"/chat/sessions?cursor={quote(cursor)}"), 400)


def test_a_session_shows_its_turns_as_they_were_answered(owner):
    answers = converse(owner, "One?", "How high must a handrail be in a house?")
    session_id = answers[0]["meta"]["session_id"]
    found = owner.get(f"/chat/sessions/{session_id}").json()
    assert (found["session_id"], found["turns"]) == (session_id, 2)
    assert [turn["answer"] for turn in found["conversation"]] == answers
    assert [turn["turn"] for turn in found["conversation"]] == [1, 2]
    assert [turn["question"] for turn in found["conversation"]] == ["One?", "How high must a handrail be in a house?"]


@pytest.mark.parametrize("turns", [2, 4])
def test_a_session_costs_the_same_for_n_and_2n_turns(owner, turns, django_assert_num_queries):
    session_id = converse(owner, *["?"] * turns)[0]["meta"]["session_id"]
    # 1 token and user, 2 pseudonym, 3 session, 4 contents with their keys.
    with django_assert_num_queries(4):
        assert len(owner.get(f"/chat/sessions/{session_id}").json()["conversation"]) == turns


def test_what_has_expired_is_not_shown(owner):
    session_id = converse(owner, "One?", "Two?")[0]["meta"]["session_id"]
    TurnContent.objects.filter(seq=1).update(expires_at=F("created_at"))
    found = owner.get(f"/chat/sessions/{session_id}").json()
    assert [turn["question"] for turn in found["conversation"]] == ["Two?"]
    assert found["turns"] == 2


def test_content_that_cannot_be_decrypted_is_410(owner):
    session_id = ask(owner)["meta"]["session_id"]
    TurnContent.objects.update(sealed=b"\x00" * 40)
    assert owner.get(f"/chat/sessions/{session_id}").status_code == 410


@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_strangers_session_is_404(owner, stranger, method):
    session_id = ask(owner)["meta"]["session_id"]
    problem_of(getattr(stranger.client, method)(f"/chat/sessions/{session_id}"), 404, "session_not_found")
    assert len(owner.get(f"/chat/sessions/{session_id}").json()["conversation"]) == 1


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize(
    "path",
    [
        UNKNOWN,
        "/chat/sessions/x",
        "/chat/sessions/" + str(uuid.UUID(int=9)).replace("-", ""),
        "/chat/sessions/ABCDEF00-0000-4000-8000-000000000000",
        "/chat/sessions/%00",
        "/chat/sessions/" + "1" * 3000,
    ],
)
def test_what_is_no_session_of_anybody_is_404(owner, method, path):
    problem_of(getattr(owner.client, method)(path), 404, "session_not_found")


def test_deleting_erases_the_texts_and_keeps_the_evidence(owner):
    session_id = converse(owner, "One?", "Two?")[0]["meta"]["session_id"]
    response = owner.client.delete(f"/chat/sessions/{session_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert TurnContent.objects.count() == 0
    assert Turn.objects.count() == 2
    assert Event.objects.filter(stream=f"session:{session_id}").count() == 3


def test_a_deletion_is_an_event_of_its_owner(owner):
    session_id = converse(owner, "One?", "Two?")[0]["meta"]["session_id"]
    owner.client.delete(f"/chat/sessions/{session_id}")
    event = Event.objects.get(kind="session.deleted")
    assert event.actor_ref == subject_ref_of(owner.user)
    assert event.stream_seq == 3
    assert b'"turns_erased":2' in bytes(event.body)


def test_a_second_deletion_is_404_without_an_event(owner):
    session_id = ask(owner)["meta"]["session_id"]
    owner.client.delete(f"/chat/sessions/{session_id}")
    problem_of(owner.client.delete(f"/chat/sessions/{session_id}"), 404, "session_not_found")
    assert Event.objects.filter(kind="session.deleted").count() == 1


def test_a_deleted_session_is_gone_from_list_and_address(owner):
    session_id, other = ask(owner)["meta"]["session_id"], ask(owner)["meta"]["session_id"]
    owner.client.delete(f"/chat/sessions/{session_id}")
    problem_of(owner.get(f"/chat/sessions/{session_id}"), 404)
    assert [row["session_id"] for row in owner.get("/chat/sessions").json()["results"]] == [other]
