"""What it costs to say who changed a flag last, and that it is right."""

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Event
from audit.services import subject_ref_of
from flags import status
from flags.registry import REGISTRY, registered
from flags.services import flag_set
from flags.status import history, statuses

pytestmark = pytest.mark.django_db
TURNS, KEPT, PROMPTS = "CONV_MAX_TURNS", "CONV_TTL_SECONDS", "FEATURE_DYNAMIC_PROMPTS"


def change(key: str, value: Any, actor_ref: str = "", reason: str = "a test") -> None:
    flag_set(key=key, value=value, actor_ref=actor_ref, reason=reason, source="tests")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bodies have been parsed."""
    parsed = []

    def loads(body: bytes) -> Any:
        parsed.append(body)
        return json.loads(body)

    monkeypatch.setattr(status, "json", SimpleNamespace(loads=loads))
    return lambda: len(parsed)


def test_a_flag_changed_lately_costs_the_same_whatever_the_history(read: Callable[[], int], monkeypatch: Any) -> None:
    monkeypatch.setattr(status, "PAGE", 5)
    for number in range(20):
        change(TURNS, number + 1)
    change(KEPT, 3600)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        (found,) = statuses([KEPT])
    assert found.last_change
    assert found.last_change.new == {"value": 3600}
    assert read() == 1
    assert len([query for query in queries if "audit_event" in query["sql"]]) == 1


def test_the_change_of_another_is_not_parsed(read: Callable[[], int]) -> None:
    for number in range(20):
        change(TURNS, number + 1)
    (found,) = statuses([PROMPTS])
    assert found.last_change
    assert found.last_change.key == PROMPTS
    # Its registration, at the very beginning.
    assert read() == 1


def test_a_flag_that_is_found_is_not_looked_for_any_further(read: Callable[[], int], monkeypatch: Any) -> None:
    monkeypatch.setattr(status, "PAGE", 5)
    for number in range(20):
        change(TURNS, number + 1)
    assert {one.last_change.key for one in statuses([TURNS, PROMPTS]) if one.last_change} == {TURNS, PROMPTS}
    assert read() <= 6


def test_the_names_of_those_alone_are_read_who_changed_something() -> None:
    users = [User.objects.create_user(f"user-{number}") for number in range(30)]
    refs = [subject_ref_of(user) for user in users]
    change(TURNS, 4, refs[3])
    change(TURNS, 5, refs[7])
    with CaptureQueriesContext(connection) as queries:
        (found,) = statuses([TURNS])
        told = [one.actor for one in history(TURNS)]
    assert found.last_change
    assert found.last_change.actor == told[0] == "user-7"
    assert told[1] == "user-3"
    sql = " ".join(query["sql"] for query in queries)
    assert refs[3] in sql
    assert refs[4] not in sql
    assert len([query for query in queries if "subject_alias" in query["sql"]]) == 2


@pytest.mark.parametrize("page", [1, 2, 7, 100])
def test_the_history_is_whole_whatever_the_size_of_a_page(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(status, "PAGE", page)
    for number in range(6):
        change(TURNS, number + 1)
        change(KEPT, 3600 + number)
    assert [one.new["value"] for one in history(TURNS)][:6] == [6, 5, 4, 3, 2, 1]
    assert len(list(history())) == Event.objects.filter(kind="flag.changed").count()
    last = {one.key: one.last_change for one in statuses()}
    assert set(last) == set(REGISTRY)
    assert all(last.values())
    assert last[KEPT].new == {"value": 3605}


def test_what_a_reason_says_is_not_taken_for_a_key() -> None:
    change(TURNS, 4, reason=f'"key":"{KEPT}"')
    change(TURNS, 5, reason=KEPT)
    assert TURNS not in {one.key for one in history(KEPT)}


def test_what_is_read_at_the_start_is_never_stale() -> None:
    long_ago = timezone.now() - timedelta(days=400)
    assert status._stale(registered(TURNS), long_ago, None)
    assert status._stale(registered("REDIS_SOCKET_TIMEOUT_MS"), long_ago, None) == ""


def test_somebody_whose_name_is_erased_stays_a_pseudonym() -> None:
    user = User.objects.create_user("leaving")
    ref = subject_ref_of(user)
    change(TURNS, 4, ref)
    user.delete()
    assert next(history(TURNS)).actor == ref
