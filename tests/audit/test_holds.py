"""A legal hold keeps what would be deleted, out of its owner's sight, until it is released."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.erasing import content_erase
from audit.holds import hold_place, hold_release
from audit.models import ContentKey, HeldContent, LegalHold, TurnContent
from audit.retention import purge_run
from audit.selectors import content_for_review, content_gone, content_of, content_read
from onesource.errors import BadInput, Conflict, NotFound
from tests.audit.contents import facts_of, held_in_time, session_begun, stored
from tests.chat.asking import QUESTION, converse, problem_of

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timedelta(days=2)
ACTOR = "f" * 32


def place(session_id: uuid.UUID, reason: str = "case 12"):
    return hold_place(session_id=session_id, reason=reason, actor_ref=ACTOR, source="tests")


def release(session_id: uuid.UUID, reason: str = "case closed"):
    return hold_release(session_id=session_id, reason=reason, actor_ref=ACTOR, source="tests")


def test_a_hold_is_on_record() -> None:
    session_id = session_begun()
    stored(session_id=session_id)
    placed = place(session_id, "  case 12 ")
    assert placed.turns == 1
    assert (placed.hold.reason, placed.hold.placed_by) == ("case 12", ACTOR)
    assert facts_of("hold.placed") == [
        {"session_id": str(session_id), "hold": placed.hold.pk, "reason": "case 12", "source": "tests", "turns": 1}
    ]


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_without_a_reason_there_is_none(reason) -> None:
    session_id = session_begun()
    with pytest.raises(BadInput):
        place(session_id, reason)
    place(session_id)
    with pytest.raises(BadInput):
        release(session_id, reason)
    assert LegalHold.objects.get().released_at is None


def test_a_session_that_nobody_had_cannot_be_held() -> None:
    with pytest.raises(NotFound):
        place(uuid.uuid4())
    assert not LegalHold.objects.exists()


def test_a_session_is_held_once_at_a_time() -> None:
    session_id = session_begun()
    place(session_id)
    with pytest.raises(Conflict):
        place(session_id)
    release(session_id)
    place(session_id)
    assert (len(facts_of("hold.placed")), len(facts_of("hold.released"))) == (2, 1)


def test_what_is_not_held_cannot_be_released() -> None:
    with pytest.raises(NotFound):
        release(session_begun())


def test_a_purge_keeps_what_is_held_and_its_key_for_reviewers_alone() -> None:
    session_id = session_begun()
    held, other = stored(expired=LONG_AGO, session_id=session_id), stored(expired=LONG_AGO, subject_ref="b" * 32)
    held_in_time(session_id)
    assert content_for_review(held.turn_id) is not None
    purged = purge_run()
    assert (purged.turns, purged.held, purged.keys) == (1, 1, 1)
    assert not TurnContent.objects.exists()
    assert content_of(held.turn_id) is None
    assert content_read(content_for_review(held.turn_id)) == content_read(held)
    assert content_for_review(other.turn_id) is None
    assert [(facts["turns"], facts["held"]) for facts in facts_of("content.purged")] == [(1, 1)]


def test_a_purge_of_held_contents_alone_purges_nothing() -> None:
    session_id = session_begun()
    stored(expired=LONG_AGO, session_id=session_id)
    held_in_time(session_id)
    for _ in range(2):
        assert purge_run().turns == 0
    assert facts_of("content.purged") == []


def test_its_owner_may_delete_a_held_session_and_sees_no_difference(owner) -> None:
    answers = converse(owner, QUESTION, "And outside?")
    session_id = answers[0]["meta"]["session_id"]
    place(uuid.UUID(session_id))
    assert owner.client.delete(f"/chat/sessions/{session_id}").status_code == 204
    problem_of(owner.get(f"/chat/sessions/{session_id}"), 404)
    problem_of(owner.client.delete(f"/chat/sessions/{session_id}"), 404)
    assert not TurnContent.objects.exists()
    assert [facts["turns_held"] for facts in facts_of("session.deleted")] == [2]
    kept = content_for_review(uuid.UUID(answers[0]["meta"]["turn_id"]))
    assert content_read(kept)["question"] == QUESTION
    purge_run()
    assert HeldContent.objects.count() == 2


def test_a_release_deletes_what_only_the_hold_kept(owner) -> None:
    (answer,) = converse(owner, QUESTION)
    session_id = uuid.UUID(answer["meta"]["session_id"])
    place(session_id)
    owner.client.delete(f"/chat/sessions/{session_id}")
    assert release(session_id).turns == 1
    assert not HeldContent.objects.exists()
    assert content_for_review(uuid.UUID(answer["meta"]["turn_id"])) is None
    assert [facts["turns_deleted"] for facts in facts_of("hold.released")] == [1]
    gone = content_gone(session_id=str(session_id), subject_ref="", expires_at=None)
    assert gone is not None
    assert (gone.why, gone.at >= LegalHold.objects.get().placed_at) == ("purged", True)


def test_a_release_deletes_what_has_expired_with_its_key_and_leaves_what_has_not() -> None:
    session_id = session_begun()
    for seq in (1, 2):
        stored(expired=LONG_AGO, session_id=session_id, seq=seq)
    held_in_time(session_id)
    purge_run()
    late = stored(expired=LONG_AGO, session_id=session_id, seq=3)
    kept = stored(session_id=session_id, seq=4)
    assert release(session_id).turns == 3
    assert TurnContent.objects.get() == kept
    assert ContentKey.objects.get() == kept.key != late.key


def test_a_released_hold_keeps_nothing() -> None:
    session_id = session_begun()
    place(session_id)
    release(session_id)
    stored(expired=LONG_AGO, session_id=session_id)
    assert purge_run().turns == 1


@pytest.mark.parametrize("hold_first", [True, False])
def test_a_hold_and_a_deletion_at_once_do_not_miss_each_other(hold_first) -> None:
    """Whichever comes second waits for the other: either the hold keeps the content, or it says that there is none."""
    session_id = session_begun()
    row = stored(session_id=session_id)
    outcome = {}

    def second() -> None:
        try:
            with transaction.atomic():
                outcome["second"] = content_erase(session_id=session_id) if hold_first else place(session_id)
        finally:
            connection.close()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        outcome["first"] = place(session_id) if hold_first else content_erase(session_id=session_id)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(10)
    if hold_first:
        assert (outcome["first"].turns, outcome["second"].held) == (1, 1)
        assert content_for_review(row.turn_id) is not None
    else:
        assert (outcome["first"].turns, outcome["second"].turns) == (1, 0)


def test_what_expired_before_and_is_held_is_read_until_the_release() -> None:
    session_id = session_begun()
    row = stored(session_id=session_id)
    held_in_time(session_id)
    TurnContent.objects.update(expires_at=timezone.now() - timedelta(seconds=30))
    assert content_for_review(row.turn_id) is not None
    release(session_id)
    assert content_for_review(row.turn_id) is None


@pytest.mark.parametrize("delete", [purge_run, content_erase], ids=["purge", "owner"])
def test_a_hold_that_comes_after_the_expiry_makes_nothing_readable_again(delete) -> None:
    session_id = session_begun()
    row = stored(expired=LONG_AGO, session_id=session_id)
    assert place(session_id).turns == 0
    assert content_for_review(row.turn_id) is None
    with transaction.atomic():
        erased = delete(session_id=session_id) if delete is content_erase else delete()
    assert (erased.turns, erased.held) == (1, 0)
    assert not HeldContent.objects.exists()
    assert content_for_review(row.turn_id) is None


def test_a_hold_keeps_those_of_a_session_that_had_not_expired_when_it_came() -> None:
    session_id = session_begun()
    stored(expired=LONG_AGO, session_id=session_id)
    kept = stored(session_id=session_id, seq=2)
    place(session_id)
    with transaction.atomic():
        assert content_erase(session_id=session_id).held == 1
    assert HeldContent.objects.get().pk == kept.pk


@pytest.mark.parametrize("release_first", [True, False])
def test_a_release_and_a_deletion_at_once_leave_no_copy(release_first) -> None:
    session_id = session_begun()
    stored(session_id=session_id)
    place(session_id)

    def second() -> None:
        try:
            with transaction.atomic():
                content_erase(session_id=session_id) if release_first else release(session_id)
        finally:
            connection.close()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        release(session_id) if release_first else content_erase(session_id=session_id)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(10)
    assert LegalHold.objects.get().released_at
    assert not HeldContent.objects.exists()
    assert not TurnContent.objects.exists()


def test_a_copy_that_no_hold_keeps_is_purged_with_its_key_and_on_record() -> None:
    """As releases of before left it."""
    lost, held = session_begun(), session_begun()
    for number, session_id in enumerate((lost, held)):
        stored(expired=LONG_AGO, session_id=session_id, subject_ref=f"{number:032x}")
        held_in_time(session_id)
    assert purge_run().held == 2
    LegalHold.objects.filter(session_id=lost).update(released_at=timezone.now())
    purged = purge_run()
    assert (purged.turns, purged.keys) == (1, 1)
    assert HeldContent.objects.get().session_id == held
    assert [(facts["turns"], facts["how"]) for facts in facts_of("content.purged")] == [(1, "unheld")]
    assert purge_run().turns == 0
