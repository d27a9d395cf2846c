"""Guarded rollouts on the database: begun, looked at, advanced, tripped, locked, superseded, all of it on record."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from audit.models import Event
from flags import snapshot
from flags.guarded import GuardedRollout, Locked
from flags.models import Flag
from flags.registry import BadValue, UnknownFlag
from flags.rollout_services import (
    NotPossible,
    rollout_acknowledge,
    rollout_cancel,
    rollout_look,
    rollout_start,
)
from flags.rollouts import Action, Arm, Arms, Measured
from flags.services import Pinned, ReasonRequired, flag_roll_out, flag_set, rows_ensure

pytestmark = pytest.mark.django_db

KEY, OTHER = "FEATURE_SUGGESTED_ACTIONS", "FEATURE_DYNAMIC_PROMPTS"
ME = "a" * 32
GOOD = Arms(Arm(600, 6), Arm(5400, 54))
ALL = Arms(Arm(6000, 60), Arm())
BAD = Arms(Arm(600, 90), Arm(5400, 54))
State = GuardedRollout.State


@pytest.fixture
def off(flag: Callable[..., None]) -> None:
    flag(KEY, False)


def start(**fields: Any) -> GuardedRollout:
    return rollout_start(**{"key": KEY, "actor_ref": ME, "reason": "a better list", "source": "tests", **fields})


def look(rollout: GuardedRollout, window: Arms, *, seconds: float = 10, slo: str = "") -> Action | None:
    """One look, `seconds` after the last one."""
    rollout.refresh_from_db()
    now = (rollout.looked_at or rollout.started_at) + timedelta(seconds=seconds)
    action = rollout_look(rollout_id=rollout.pk, measured=Measured(window, window, slo), now=now)
    rollout.refresh_from_db()
    return action


def tripped() -> GuardedRollout:
    rollout = start()
    assert [look(rollout, BAD), look(rollout, BAD)] == ["hold", "trip"]
    return rollout


def share() -> tuple[bool | None, int]:
    flag = Flag.objects.get(name=KEY)
    return flag.everyone, flag.rollout_bp


def facts(kind: str) -> list[dict[str, Any]]:
    rows = Event.objects.filter(kind=kind).order_by("stream_seq")
    return [{"actor": body["actor"], **body["facts"]} for row in rows if (body := json.loads(bytes(row.body)))]


def count() -> int:
    return Event.objects.count()


# The start


def test_a_rollout_begins_with_one_percent_on_record(off: None) -> None:
    rollout = start()
    assert share() == (None, 100)
    (begun,) = facts("rollout.started")
    assert begun == {
        "actor": ME,
        "key": KEY,
        "rollout": rollout.pk,
        "stage_bp": 100,
        "hold_seconds": 600,
        "reason": "a better list",
        "source": "tests",
    }
    changed = facts("flag.changed")[-1]
    assert (changed["actor"], changed["old"]["everyone"], changed["new"]["rollout_bp"]) == (ME, False, 100)


def test_a_rollout_goes_on_from_the_share_that_there_is(off: None) -> None:
    flag_roll_out(key=KEY, rollout_bp=2000, actor_ref=ME, reason="", source="tests")
    assert start().stage_bp == 5000
    assert share() == (None, 5000)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"key": "CONV_DUAL_WRITE"}, BadValue, "not a cohort flag"),
        ({"key": "NO_SUCH_FLAG"}, UnknownFlag, "not a registered"),
        ({"reason": " "}, ReasonRequired, "say why"),
        ({"hold_seconds": 59}, BadValue, "hold from 60"),
        ({"hold_seconds": 10**7}, BadValue, "hold from 60"),
        ({"key": OTHER}, NotPossible, "on for everyone"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_and_changes_nothing(
    off: None, fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    before = count()
    with pytest.raises(error, match=text):
        start(**fields)
    assert count() == before
    assert not GuardedRollout.objects.exists()


def test_a_pinned_flag_is_not_rolled_out(override_pins: Callable[..., None]) -> None:
    override_pins(FEATURE_SUGGESTED_ACTIONS=False)
    with pytest.raises(Pinned):
        start()


def test_a_flag_has_one_rollout_at_a_time(off: None) -> None:
    start()
    with pytest.raises(NotPossible, match="already"):
        start()
    with pytest.raises(IntegrityError), transaction.atomic():
        GuardedRollout.objects.create(key=KEY, stage_bp=100, reason="past the services")


# Looks


def held(rollout: GuardedRollout, window: Arms = GOOD) -> Action | None:
    """Looks until the stage is left."""
    for _ in range(61):
        action = look(rollout, window)
        if action != "hold":
            return action
    return "hold"


def test_a_healthy_canary_goes_all_the_way(off: None) -> None:
    rollout = start()
    seen = [(share()[1], held(rollout, window)) for window in (GOOD, GOOD, GOOD, ALL)]
    assert seen == [(100, "advance"), (1000, "advance"), (5000, "advance"), (10_000, "complete")]
    assert (share(), rollout.state) == ((None, 10_000), State.COMPLETED)
    assert [(one["from_bp"], one["to_bp"]) for one in facts("rollout.advanced")] == [
        (100, 1000),
        (1000, 5000),
        (5000, 10_000),
    ]
    assert facts("rollout.advanced")[0]["canary"] == [36_000, 360]
    assert len(facts("rollout.completed")) == 1
    assert {(one["source"], one["actor"]) for one in facts("flag.changed")[-3:]} == {("rollout", "")}


def test_without_traffic_nothing_moves(off: None) -> None:
    rollout = start()
    assert {look(rollout, Arms(), seconds=3600) for _ in range(70)} == {"hold"}
    assert (share(), rollout.state) == ((None, 100), State.RUNNING)


def test_a_bad_canary_is_taken_back_on_record(off: None) -> None:
    rollout = tripped()
    assert (share(), rollout.state) == ((None, 0), State.TRIPPED)
    (trip,) = facts("rollout.tripped")
    assert (trip["key"], trip["rollout"], trip["stage_bp"], trip["actor"]) == (KEY, rollout.pk, 100, "")
    assert trip["reason"].startswith("twice running: errors of the canary 90 of 600")
    assert trip["canary"] == [1200, 180]
    changed = facts("flag.changed")[-1]
    assert (changed["source"], changed["old"]["rollout_bp"], changed["new"]["rollout_bp"]) == ("rollout", 100, 0)
    snapshot.reset()
    assert snapshot.current().boolean(KEY, snapshot.Subject("b" * 32)) is False


def test_a_broken_slo_takes_it_back_at_the_first_look(off: None) -> None:
    rollout = start()
    assert look(rollout, GOOD, slo="9 of 300 turns got no answer") == "trip"
    assert rollout.end_reason == "9 of 300 turns got no answer"


def test_two_leaders_at_once_look_once(off: None) -> None:
    rollout = start()
    assert look(rollout, BAD) == "hold"
    assert look(rollout, BAD, seconds=1) is None
    assert rollout.state == State.RUNNING
    assert len(rollout.looks) == 1


def test_a_rollout_that_has_ended_is_not_looked_at(off: None) -> None:
    rollout, before = tripped(), count()
    assert look(rollout, GOOD) is None
    assert count() == before


@pytest.mark.parametrize("window", [BAD, GOOD])
def test_what_a_look_does_is_undone_with_its_record(off: None, window: Arms) -> None:
    """One transaction: when the event cannot be written, the share does not move."""
    rollout = start()
    while look(rollout, window) == "hold" and not (rollout.suspect or rollout.held_seconds >= 590):
        pass
    before, held_share = count(), share()
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_seq FROM audit_stream WHERE name = 'flags'")
        (last,) = cursor.fetchone()
    # Takes the number of the second event of the look, so that the change is written and then its record fails.
    Event.objects.create(at=timezone.now(), kind="taken", stream="flags", stream_seq=last + 2, body=b"{}", leaf=b"")
    with pytest.raises(IntegrityError), transaction.atomic():
        look(rollout, window)
    rollout.refresh_from_db()
    assert (share(), rollout.state, count()) == (held_share, State.RUNNING, before + 1)


# The lock


def edits() -> dict[str, Callable[[], Any]]:
    def saved() -> None:
        flag = Flag.objects.get(name=KEY)
        flag.everyone = True
        flag.save()

    return {
        "flag_set": lambda: flag_set(key=KEY, value=True, actor_ref=ME, reason="again", source="tests"),
        "flag_roll_out": lambda: flag_roll_out(key=KEY, rollout_bp=50, actor_ref=ME, reason="again", source="tests"),
        "rollout_start": lambda: start(),
        "save": saved,
        "QuerySet.update": lambda: Flag.objects.filter(name=KEY).update(rollout_bp=5000),
        "delete": lambda: Flag.objects.get(name=KEY).delete(),
        "users.add": lambda: Flag.objects.get(name=KEY).users.add(User.objects.create_user("somebody")),
    }


@pytest.mark.parametrize("path", edits())
def test_a_tripped_flag_is_locked_until_somebody_acknowledges(off: None, path: str) -> None:
    rollout = tripped()
    before = count()
    with pytest.raises(Locked, match=r"Acknowledge the trip with a reason first"), transaction.atomic():
        edits()[path]()
    assert (share(), count()) == ((None, 0), before)
    rollout_acknowledge(rollout_id=rollout.pk, actor_ref=ME, reason="the list was empty; fixed", source="tests")
    edits()[path]()
    assert count() > before + 1


def test_other_flags_and_the_making_of_rows_go_on(off: None) -> None:
    tripped()
    flag_set(key=OTHER, value=False, actor_ref=ME, reason="", source="tests")
    rows_ensure()
    assert Flag.objects.get(name=OTHER).everyone is False


def test_an_acknowledgement_says_who_and_why(off: None) -> None:
    rollout = tripped()
    with pytest.raises(ReasonRequired):
        rollout_acknowledge(rollout_id=rollout.pk, actor_ref=ME, reason="", source="tests")
    rollout_acknowledge(rollout_id=rollout.pk, actor_ref=ME, reason="fixed", source="tests")
    (fact,) = facts("rollout.acknowledged")
    assert (fact["actor"], fact["reason"], fact["rollout"]) == (ME, "fixed", rollout.pk)
    with pytest.raises(NotPossible):
        rollout_acknowledge(rollout_id=rollout.pk, actor_ref=ME, reason="again", source="tests")


# A person's edit wins


@pytest.mark.parametrize("path", ["flag_set", "flag_roll_out", "save", "QuerySet.update"])
def test_an_edit_ends_the_rollout(off: None, path: str) -> None:
    rollout = start()
    edits()[path]()
    edited = share()
    assert look(rollout, BAD) is None
    assert (rollout.state, share()) == (State.SUPERSEDED, edited)
    (fact,) = facts("rollout.superseded")
    assert (fact["rollout"], fact["key"]) == (rollout.pk, KEY)


def test_an_edit_that_was_taken_back_again_still_ends_the_rollout(off: None) -> None:
    rollout = start()
    for bp in (5000, 100):
        flag_roll_out(key=KEY, rollout_bp=bp, actor_ref=ME, reason="", source="tests")
    rollout.refresh_from_db()
    assert rollout.state == State.SUPERSEDED


def test_an_edit_past_all_our_write_paths_wins_as_well(off: None) -> None:
    rollout = start()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE flags_flag SET rollout_bp = 2500 WHERE name = %s", [KEY])
    assert look(rollout, BAD) == "hold"
    look(rollout, BAD)
    assert (rollout.state, share()) == (State.SUPERSEDED, (None, 2500))
    assert len(facts("rollout.superseded")) == 1
    assert not facts("rollout.tripped")


def test_listing_a_person_or_editing_another_flag_does_not_end_it(off: None) -> None:
    rollout = start()
    edits()["users.add"]()
    flag_set(key=OTHER, value=False, actor_ref=ME, reason="", source="tests")
    rollout.refresh_from_db()
    assert rollout.state == State.RUNNING


def test_an_edit_and_the_end_of_the_rollout_are_undone_together(off: None) -> None:
    rollout, before = start(), count()
    with transaction.atomic():
        edits()["flag_set"]()
        transaction.set_rollback(True)
    rollout.refresh_from_db()
    assert (rollout.state, share(), count()) == (State.RUNNING, (None, 100), before)


# Cancelling


def test_cancelling_goes_back_to_nobody_on_record(off: None) -> None:
    rollout = start()
    with pytest.raises(ReasonRequired):
        rollout_cancel(rollout_id=rollout.pk, actor_ref=ME, reason=" ", source="tests")
    rollout_cancel(rollout_id=rollout.pk, actor_ref=ME, reason="not today", source="tests")
    rollout.refresh_from_db()
    assert (rollout.state, share()) == (State.CANCELLED, (None, 0))
    (fact,) = facts("rollout.cancelled")
    assert (fact["actor"], fact["reason"]) == (ME, "not today")
    changed = facts("flag.changed")[-1]
    assert (changed["actor"], changed["reason"], changed["new"]["rollout_bp"]) == (ME, "not today", 0)
    with pytest.raises(NotPossible, match="nothing to cancel"):
        rollout_cancel(rollout_id=rollout.pk, actor_ref=ME, reason="again", source="tests")
    assert start().stage_bp == 100


# The record


def steps() -> dict[str, tuple[Callable[[GuardedRollout], Any], str]]:
    """Each on a rollout that runs, or that has tripped."""

    def trip(rollout: GuardedRollout) -> None:
        look(rollout, GOOD, slo="an SLO is broken")

    def advance(rollout: GuardedRollout) -> None:
        GuardedRollout.objects.update(held_seconds=595, canary_turns=500)
        look(rollout, GOOD)

    def complete(rollout: GuardedRollout) -> None:
        assert [held(rollout, window) for window in (GOOD, GOOD, GOOD, ALL)][-1] == "complete"

    return {
        "start": (lambda _: rollout_start(key="USE_UNIFIED_PIPELINE", **WHO), "rollout.started"),
        "advance": (advance, "rollout.advanced"),
        "complete": (complete, "rollout.completed"),
        "trip": (trip, "rollout.tripped"),
        "edit": (lambda _: edits()["flag_set"](), "rollout.superseded"),
        "cancel": (lambda rollout: rollout_cancel(rollout_id=rollout.pk, **WHO), "rollout.cancelled"),
        "acknowledge": (lambda rollout: rollout_acknowledge(rollout_id=rollout.pk, **WHO), "rollout.acknowledged"),
    }


WHO = {"actor_ref": ME, "reason": "a test", "source": "tests"}


@pytest.mark.parametrize("step", steps())
def test_every_step_is_on_record_and_undone_with_it(off: None, flag: Callable[..., None], step: str) -> None:
    flag("USE_UNIFIED_PIPELINE", False)
    rollout = tripped() if step == "acknowledge" else start()
    act, kind = steps()[step]
    before, known, rows = count(), len(facts(kind)), list(GuardedRollout.objects.values())
    shares = list(Flag.objects.order_by("pk").values("everyone", "rollout_bp"))
    with transaction.atomic():
        act(rollout)
        assert len(facts(kind)) > known
        transaction.set_rollback(True)
    assert (count(), list(GuardedRollout.objects.values())) == (before, rows)
    assert list(Flag.objects.order_by("pk").values("everyone", "rollout_bp")) == shares


# Edits at the same time


@pytest.mark.django_db(transaction=True)
def test_edits_and_looks_at_once_queue_instead_of_blocking_each_other() -> None:
    flag_set(key=KEY, value=False, actor_ref=ME, reason="", source="tests")
    rollout = start()
    gate = threading.Barrier(3)

    def looks() -> None:
        for number in range(1, 16):
            now = rollout.started_at + timedelta(seconds=10 * number)
            rollout_look(rollout_id=rollout.pk, measured=Measured(GOOD, GOOD), now=now)

    def edit(key: str) -> None:
        for number in range(15):
            flag_set(key=key, value=number % 2 == 0, actor_ref=ME, reason="at once", source="tests")

    def run(act: Callable[[], None]) -> None:
        try:
            gate.wait(10)
            act()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        acts = [looks, lambda: edit(OTHER), lambda: edit("USE_UNIFIED_PIPELINE")]
        for done in [pool.submit(run, act) for act in acts]:
            done.result(60)
    rollout.refresh_from_db()
    assert (rollout.state, len(rollout.looks)) == (State.RUNNING, 15)
