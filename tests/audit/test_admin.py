"""The audit trail in the admin: reviewers read it, and nobody writes it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from audit import actions
from audit.models import Event
from audit.services import event_record
from tests.cast import Member

LIST = "/admin/audit/event/"


@pytest.fixture
def event(db: None) -> Event:
    return record(1)


def record(number: int) -> Event:
    facts = {"session_id": f"session {number}", "turns_erased": number}
    return event_record(kind=actions.SESSION_DELETED, stream=f"session:{number}", actor_ref="b" * 32, facts=facts)


def page_of(event: Event, action: str = "change") -> str:
    return f"{LIST}{event.pk}/{action}/"


@pytest.fixture(params=["reviewer", "admin"])
def reader(request: pytest.FixtureRequest) -> Member:
    member: Member = request.getfixturevalue(request.param)
    return member


def test_a_reader_finds_the_events(reader: Member, event: Event) -> None:
    listed = reader.browser.get(LIST)
    assert listed.status_code == 200
    assert page_of(event) in listed.content.decode()


def test_a_reader_sees_an_event_and_its_body(reader: Member, event: Event) -> None:
    page = reader.browser.get(page_of(event))
    assert page.status_code == 200
    assert "session.deleted" in page.content.decode()
    assert "&quot;turns_erased&quot;:1" in page.content.decode()
    assert 'name="_save"' not in page.content.decode()


@pytest.mark.parametrize(
    "query",
    [lambda e: {"q": str(e.uid)}, lambda e: {"q": e.stream}, lambda e: {"q": e.actor_ref},
     lambda e: {"kind": e.kind}],
    ids=["uid", "stream", "actor", "kind"],
)  # fmt: skip
def test_a_reader_searches(reader: Member, event: Event, query: Callable[[Event], dict[str, str]]) -> None:
    other = event_record(kind=actions.LOGGED_OUT, stream="other", actor_ref="c" * 32, facts={})
    found = reader.browser.get(LIST, query(event)).content.decode()
    assert page_of(event) in found
    assert page_of(other) not in found


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%F0%9F%8F%97", "kind=%00", "p=9999", "p=x", "o=99", "nonsense=1", "kind__regex=(("]
)
def test_a_reader_who_searches_oddly_is_not_told_of_a_fault(reader: Member, event: Event, query: str) -> None:
    response = reader.browser.get(f"{LIST}?{query}")
    assert response.status_code in (200, 302, 400)


@pytest.mark.parametrize("action", ["change", "delete"])
def test_nobody_writes_an_event(reader: Member, event: Event, action: str) -> None:
    before = Event.objects.values().get(pk=event.pk)
    form = {"kind": "logout", "stream": "forged", "body": "{}", "post": "yes"}
    assert reader.browser.post(page_of(event, action), form).status_code == 403
    assert Event.objects.values().get(pk=event.pk) == before


def test_nobody_adds_an_event(reader: Member) -> None:
    assert reader.browser.get(f"{LIST}add/").status_code == 403
    before = Event.objects.count()
    assert reader.browser.post(f"{LIST}add/", {"kind": "logout", "stream": "forged"}).status_code == 403
    assert Event.objects.count() == before


def test_nobody_deletes_events_by_the_list_s_action(reader: Member, event: Event) -> None:
    reader.browser.post(LIST, {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"})
    assert Event.objects.filter(pk=event.pk).exists()


@pytest.mark.parametrize("outsider", ["flag_manager", "operator"])
def test_other_staff_see_no_events(request: pytest.FixtureRequest, outsider: str, event: Event) -> None:
    member: Member = request.getfixturevalue(outsider)
    assert [member.browser.get(path).status_code for path in (LIST, page_of(event))] == [403, 403]


def test_a_plain_user_and_nobody_are_sent_to_sign_in(owner: Member, client: Client, event: Event) -> None:
    for browser in (owner.browser, client):
        for path in (LIST, page_of(event)):
            assert browser.get(path)["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("more", [0, 20])
def test_the_list_costs_the_same_with_more_events(
    reviewer: Member, event: Event, django_assert_num_queries: Any, more: int
) -> None:
    for number in range(2, 2 + more):
        record(number)
    reviewer.browser.get("/healthz")
    # session; user; the user's permissions; the groups' permissions; kinds for the filter; count; events
    with django_assert_num_queries(7):
        reviewer.browser.get(LIST)
