"""The trail itself."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from audit.models import Event
from audit.services import event_record, subject_ref_of
from chat.models import Turn
from review.services import content_reveal
from tests.cast import PASSWORD, Member
from tests.review.turns import AUDIT, REASON, page_of
from tests.tampering import tamper

pytestmark = pytest.mark.django_db
EVENTS = f"{AUDIT}events/"


def event_make(kind: str = "logout", *, stream: str = "auth", actor_ref: str = "", **fields: Any) -> Event:
    return event_record(kind=kind, stream=stream, actor_ref=actor_ref, facts=fields.pop("facts", {}), **fields)


def found_on(page: str) -> list[str]:
    rows = page.split("<tbody>")[1].split("</tbody>")[0] if "<tbody>" in page else ""
    return [part.split('/"')[0] for part in rows.split('href="/audit/events/')[1:]]


def test_all_kinds_are_there_the_newest_first(reviewer: Member, owner: Member, client: Any, flag: Any) -> None:
    flag("CONV_MAX_TURNS", 5, reason="a reason to see")
    client.post("/accounts/login", {"username": "owner", "password": PASSWORD})
    page_of(reviewer, EVENTS)
    uids = [str(event.uid) for event in Event.objects.order_by("-at", "-pk")[:50]]
    page = page_of(reviewer, EVENTS)
    assert found_on(page) == uids
    for label in ("Signed in", "Flag or setting changed", "API token created"):
        assert label in page


def test_by_kind(reviewer: Member) -> None:
    event = event_make("login.failed", facts={"identifier_hash": "x"})
    event_make()
    assert found_on(page_of(reviewer, EVENTS, kind="login.failed")) == [str(event.uid)]


def test_by_actor(reviewer: Member, owner: Member) -> None:
    ref = subject_ref_of(owner.user)
    event = event_make(actor_ref=ref)
    event_make(actor_ref="c" * 32)
    assert found_on(page_of(reviewer, EVENTS, actor="owner")) == [str(event.uid)]
    assert found_on(page_of(reviewer, EVENTS, actor=ref)) == [str(event.uid)]


def test_by_stream_and_time(reviewer: Member) -> None:
    old = timezone.now() - timedelta(days=30)
    event = event_make(stream="session:old one", at=old)
    event_make(stream="session:new")
    assert found_on(page_of(reviewer, EVENTS, stream="session:old one")) == []
    assert found_on(page_of(reviewer, EVENTS, stream="session:old one", **{"from": ""})) == [str(event.uid)]
    assert found_on(page_of(reviewer, EVENTS, **{"from": "", "to": f"{old + timedelta(days=1):%Y-%m-%dT%H:%M}"})) == [
        str(event.uid)
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "no.such"),
        ("actor", "nobody"),
        ("actor", "\x00"),
        ("stream", "s" * 81),
        ("from", "now"),
        ("to", "1-1-1"),
    ],
)
def test_a_bad_value_is_400_and_says_what_is_expected(reviewer: Member, name: str, value: str) -> None:
    event_make()
    page = page_of(reviewer, EVENTS, 400, **{name: value})
    assert f'id="id_{name}_error"' in page
    assert found_on(page) == []


def test_the_page_leads_to_the_older_ones(reviewer: Member) -> None:
    made = [str(event_make(stream="of many").uid) for _ in range(60)]
    first = page_of(reviewer, EVENTS, stream="of many")
    (following,) = [part.split('"')[0] for part in first.split('class="button plain" href="?')[1:]]
    second = reviewer.browser.get(f"{EVENTS}?{following.replace('&amp;', '&')}").content.decode()
    assert found_on(first) + found_on(second) == made[::-1]


def test_a_cursor_that_we_did_not_give_is_400(reviewer: Member) -> None:
    assert "not one of ours" in page_of(reviewer, EVENTS, 400, cursor="x")


@pytest.mark.parametrize("count", [20, 40])
def test_the_list_costs_the_same_for_n_and_2n(reviewer: Member, count: int, django_assert_num_queries: Any) -> None:
    for _ in range(count):
        event_make(stream="counted")
    page_of(reviewer, EVENTS)
    # 1 browser session, 2 user, 3 and 4 permissions, 5 how far to look first, 6 events.
    with django_assert_num_queries(6):
        assert len(found_on(page_of(reviewer, EVENTS, stream="counted"))) == count


def test_an_event_shows_its_body_and_hash(reviewer: Member, owner: Member) -> None:
    facts = {
        "what": "a conversation",
        "reason": "<b>why</b>",
        "source": "tests",
        "list": [1, {"deep": True}],
        "none": [],
    }
    event = event_make("export.made", facts=facts, actor_ref=subject_ref_of(owner.user))
    page = page_of(reviewer, f"{EVENTS}{event.uid}/")
    assert event.leaf.hex() in page
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    assert "<b>why</b>" not in page
    for line in ("list[0]</code></th><td>1", "list[1].deep</code></th><td>on", "none</code></th><td>none"):
        assert line in page
    assert json.loads(bytes(event.body))["uid"] in page
    assert "owner" not in page.split("<main")[1]


def test_an_event_that_nobody_has_is_404(reviewer: Member) -> None:
    assert reviewer.browser.get(f"{EVENTS}{uuid.uuid4()}/").status_code == 404


def test_an_event_of_a_later_release_is_shown_by_its_kind(reviewer: Member) -> None:
    event = Event.objects.create(
        at=timezone.now(), kind="of.tomorrow", stream="auth", stream_seq=99, body=b"{}", leaf=b"0" * 32
    )
    assert "of.tomorrow" in page_of(reviewer, EVENTS)
    assert "<h1>of.tomorrow</h1>" in page_of(reviewer, f"{EVENTS}{event.uid}/")


@pytest.mark.skipif("postgres" in str(settings.DATABASES["default"]["ENGINE"]), reason="PostgreSQL takes no such value")
@pytest.mark.parametrize(
    ("spoil", "paths"),
    [
        ("UPDATE audit_event SET uid = 'zzz' WHERE kind = 'content.revealed'", ("events/", "turns/{turn}/")),
        (
            "UPDATE audit_event SET at = '2026-11-99 00:00:00' WHERE kind = 'turn.completed'",
            ("events/", "events/{event}/"),
        ),
        ("UPDATE audit_event SET at = 'x' WHERE kind = 'content.revealed'", ("turns/{turn}/",)),
        ("UPDATE chat_turn SET created_at = '2026-11-99 00:00:00'", ("", "turns/{turn}/", "api/turns")),
    ],
)
def test_a_value_that_none_of_ours_can_be_is_told_and_no_failure(
    reviewer: Member, asked: Turn, spoil: str, paths: tuple[str, ...]
) -> None:
    content_reveal(turn_id=asked.pk, reason=REASON, actor_ref="", source="tests")
    tamper(spoil)
    all_time = {"from": "", "to": ""}
    for path in paths:
        reply = reviewer.browser.get(AUDIT + path.format(turn=asked.pk, event=asked.event_uid), all_time)
        assert reply.status_code == 409, path
        assert "audit verify" in reply.content.decode()
