"""Refused API tokens: what goes on record of them, how much of a flood, and what happens when the trail is full."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from prometheus_client import REGISTRY
from rest_framework.test import APIClient

from audit.models import Event, Stream
from audit.services import subject_ref_of
from chat import refusals
from chat.refusals import RECORDED_A_MINUTE
from chat.tokens import token_create
from tests.cast import Member
from tests.chat.asking import problem_of

pytestmark = pytest.mark.django_db


def refused() -> list[dict[str, Any]]:
    rows = Event.objects.filter(kind="token.refused").order_by("stream_seq")
    return [json.loads(bytes(row.body)) for row in rows]


def send(token: str, path: str = "/flags") -> Any:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client.get(path)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"onesource_token_refusals_{name}", labels) or 0


@pytest.mark.parametrize(
    ("token", "cause"),
    [("planted" * 9, "unknown"), ("caf\u00e9", "malformed"), ("", "malformed"), ("planted two", "malformed")],
)
def test_a_token_that_is_none_is_on_record_without_it(token: str, cause: str) -> None:
    before = counted("total", cause=cause)
    problem_of(send(token), 401)
    (event,) = refused()
    assert event["actor"] == ""
    assert {**event["facts"], "token": ""} == {"cause": cause, "token": "", "for_ref": "", "suppressed": 0}
    assert len(event["facts"]["token"]) == 32
    assert "planted" not in json.dumps(event)
    assert counted("total", cause=cause) == before + 1


def test_an_expired_token_is_told_by_whose_it_was(owner: Member) -> None:
    token = token_create(user=owner.user, lifetime=timedelta(seconds=-1), source="tests")
    created = json.loads(bytes(Event.objects.filter(kind="token.created").latest("stream_seq").body))
    problem_of(send(token), 401)
    (event,) = refused()
    assert (event["facts"]["cause"], event["facts"]["for_ref"]) == ("expired", subject_ref_of(owner.user))
    # The one that its making is on record with.
    assert event["facts"]["token"] == created["facts"]["token"]


def test_a_token_of_an_inactive_user_is_told(owner: Member) -> None:
    User.objects.update(is_active=False)
    problem_of(send(owner.token), 401)
    (event,) = refused()
    assert (event["facts"]["cause"], event["facts"]["for_ref"]) == ("inactive", subject_ref_of(owner.user))


def test_the_metrics_page_s_refusals_are_told(settings: Any) -> None:
    settings.METRICS_ALLOWED_NETWORKS = []
    assert send("planted", "/metrics").status_code == 403
    assert [event["facts"]["cause"] for event in refused()] == ["unknown"]


def test_a_good_token_is_no_event(owner: Member) -> None:
    assert send(owner.token).status_code == 200
    assert refused() == []


def test_a_flood_is_on_record_by_its_first_and_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before = counted("total", cause="unknown"), counted("unrecorded_total", why="limit")
    for number in range(RECORDED_A_MINUTE + 7):
        problem_of(send(f"garbage-{number}"), 401)
    assert [event["facts"]["suppressed"] for event in refused()] == [0] * RECORDED_A_MINUTE
    assert counted("total", cause="unknown") == before[0] + RECORDED_A_MINUTE + 7
    assert counted("unrecorded_total", why="limit") == before[1] + 7
    later = time.monotonic() + refusals.MINUTE
    monkeypatch.setattr("time.monotonic", lambda: later)
    send("garbage")
    send("garbage")
    assert [event["facts"]["suppressed"] for event in refused()[-2:]] == [7, 0]


def test_a_trail_that_cannot_be_written_leaves_a_401_a_count_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    before = counted("unrecorded_total", why="failed")
    last = Stream.objects.filter(name="auth").values_list("last_seq", flat=True).first() or 0
    # Its number is taken.
    Event.objects.create(at=timezone.now(), kind="taken", stream="auth", stream_seq=last + 1, body=b"{}", leaf=b"")
    problem_of(send("garbage"), 401, "invalid_token")
    assert refused() == []
    assert counted("unrecorded_total", why="failed") == before + 1
    assert "token.refusal_unrecorded" in caplog.text
    Stream.objects.update_or_create(name="auth", defaults={"last_seq": last + 1})
    problem_of(send("garbage"), 401)
    assert [event["facts"]["suppressed"] for event in refused()] == [1]
