"""A turn's page: what was recorded, in words; never what was asked or answered."""

import io
import json
import re
import uuid
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from audit import actions
from audit.holds import hold_place
from audit.models import Event, TurnContent
from audit.retention import purge_run
from audit.sealing import log_seal
from audit.selectors import content_of, content_read
from audit.services import event_record
from chat.guard import CODES
from chat.models import Session, Turn
from review import record
from review.selectors import content_state
from tests.cast import Member
from tests.chat.asking import ask
from tests.model_server import ModelServer
from tests.review.turns import API, AUDIT, QUESTION, REASON, page_of, turns_make

pytestmark = pytest.mark.django_db


def turn_page(member: Member, turn: Turn) -> str:
    return page_of(member, f"{AUDIT}turns/{turn.pk}/")


def test_the_facts_are_there(reviewer: Member, asked: Turn) -> None:
    page = turn_page(reviewer, asked)
    facts = json.loads(bytes(Event.objects.get(uid=asked.event_uid).body))["facts"]
    for told in (facts["template"], facts["version"], facts["commit"], asked.session.subject_ref, asked.outcome):
        assert told in page
    assert f"question {len(QUESTION)} characters" in page


def test_the_flags_are_those_of_the_moment(reviewer: Member, asked: Turn, flag: Any) -> None:
    flag("CONV_MAX_TURNS", 3)
    page = turn_page(reviewer, asked)
    assert re.search(r"CONV_MAX_TURNS</code></th><td>16</td>", page)


def test_references_say_whether_they_are_known(reviewer: Member) -> None:
    marks = [{"text": "D3D14", "known": True}, {"text": "Z9Z99", "known": False}]
    (turn,) = turns_make(references=marks)
    page = turn_page(reviewer, turn)
    assert re.search(r"D3D14</a></th><td>known</td>", page)
    assert re.search(r'Z9Z99</a></th><td><span class="unknown">unknown</span></td>', page)


def test_repairs_are_told_in_plain_sentences(
    reviewer: Member,
    owner: Member,
    openai_configured: ModelServer,
) -> None:
    openai_configured.reply(
        text="```json\n"
        + json.dumps(
            {
                "title": "T",
                "summary": "S",
                "blocks": [
                    "text",
                ],
            }
        )
        + "\n```"
    )
    answer = ask(owner)
    turn = Turn.objects.get(pk=answer["meta"]["turn_id"])
    assert "FENCE" in turn.repair_codes
    page = turn_page(reviewer, turn)
    for code in turn.repair_codes:
        assert CODES[code].sentence in page
        assert code in page


def test_no_text_of_the_turn_is_on_any_page_but_the_one_that_reveals(reviewer: Member, asked: Turn) -> None:
    row = content_of(asked.pk)
    assert row is not None
    held = content_read(row)
    planted = [QUESTION, held["answer"]["title"], held["answer"]["summary"]]
    pages = [
        turn_page(reviewer, asked),
        page_of(reviewer, AUDIT),
        page_of(reviewer, f"{AUDIT}events/"),
        page_of(reviewer, f"{AUDIT}events/{asked.event_uid}/"),
        reviewer.get(f"{API}turns").content.decode(),
        reviewer.get(f"{API}turns/{asked.pk}").content.decode(),
        reviewer.get(f"{API}export", reason=REASON).getvalue().decode(),
    ]
    assert [text for text in planted for page in pages if text in page] == []


def test_the_timeline_tells_what_happened_in_its_order(reviewer: Member, asked: Turn) -> None:
    started = {"turn_id": str(asked.pk), "session_id": str(asked.session_id), "endpoint": "chat"}
    started |= {"pipeline": "unified", "question": "", "flags": ""}
    stream = f"session:{asked.session_id}"
    event_record(
        kind=actions.TURN_STARTED, stream=stream, stream_seq=8, actor_ref="", facts=started, at=asked.created_at
    )
    other = {**started, "turn_id": str(uuid.uuid4())}
    event_record(kind=actions.TURN_STARTED, stream=stream, stream_seq=9, actor_ref="", facts=other, at=asked.created_at)
    Turn.objects.filter(pk=asked.pk).update(first_token_us=1)
    Session.objects.filter(pk=asked.session_id).update(event_count=9)
    reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON})
    reviewer.browser.post(f"{AUDIT}export", {"reason": "Sent to the lawyers", "format": "csv", "turn": str(asked.pk)})
    reviewer.browser.post(f"{AUDIT}export", {"reason": "Of another outcome", "format": "csv", "outcome": "refused"})
    page = turn_page(reviewer, asked).split('<ol class="timeline">')[1].split("</ol>")[0]
    told = [
        "Question received",
        "First text of the reply",
        "Streamed answer begun",
        "Answer recorded",
        REASON,
        "Sent to the",
    ]
    assert [page.count(text) for text in told] == [1] * len(told)
    places = [page.index(text) for text in told if text not in ("Streamed answer begun", "Answer recorded")]
    assert places == sorted(places)
    assert "Of another outcome" not in page


def test_a_timeline_that_is_too_long_says_so(reviewer: Member, asked: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the latest is left out" not in turn_page(reviewer, asked)
    monkeypatch.setattr("review.timeline.LIMIT", 1)
    reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON})
    assert "the latest is left out" in turn_page(reviewer, asked)


@pytest.mark.parametrize("before", [1, 30])
def test_the_page_costs_the_same_for_a_longer_history(
    reviewer: Member, asked: Turn, before: int, django_assert_num_queries: Any
) -> None:
    for _ in range(before):
        reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON})
    turn_page(reviewer, asked)
    # 1 browser session, 2 user, 3 and 4 permissions, 5 turn and session, 6 event, 7 content, 8 hold, 9 to 12 timeline.
    with django_assert_num_queries(12):
        turn_page(reviewer, asked)


def test_a_turn_that_nobody_has_is_404(reviewer: Member) -> None:
    assert reviewer.browser.get(f"{AUDIT}turns/{uuid.uuid4()}/").status_code == 404
    assert reviewer.browser.get(f"{AUDIT}turns/1/").status_code == 404


# Tampered records


def test_a_missing_event_is_said_so(reviewer: Member) -> None:
    (turn,) = turns_make()
    assert "is not in the trail" in turn_page(reviewer, turn)


BODIES = [b"", b"\xff\xfe", b"[]", b"{}", b'{"facts":[]}', b'{"facts":{"guard":[],"flags":3,"passages":7}}',
          b'{"facts":{"guard":{"events":[1,{"code":3},{"count":"x"}]},"flags":{"epoch":[]}}}']  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_was_tampered_with_does_no_harm(reviewer: Member, body: bytes) -> None:
    event = Event.objects.create(
        at=timezone.now(), kind="turn.completed", stream="session:x", stream_seq=1, body=body, leaf=b"0" * 32
    )
    (turn,) = turns_make(event_uid=event.uid)
    turn_page(reviewer, turn)
    assert page_of(reviewer, f"{AUDIT}events/{event.uid}/")
    assert reviewer.get(f"{API}turns/{turn.pk}").status_code == 200


def test_a_repair_of_a_later_release_is_shown_by_its_code() -> None:
    (repair,) = record.repairs({"guard": {"events": [{"code": "OF_TOMORROW", "pointer": "/title", "count": 2}]}})
    assert (repair.code, repair.kind, repair.place, repair.times) == (
        "OF_TOMORROW",
        "unknown to this release",
        "/title",
        2,
    )


# What became of the content


def test_content_is_held_until_it_expires(reviewer: Member, asked: Turn) -> None:
    expires = TurnContent.objects.get(pk=asked.pk).expires_at
    assert f"Content held until {expires:%Y-%m-%d %H:%M} UTC." in turn_page(reviewer, asked)


def test_content_that_its_owner_erased(reviewer: Member, owner: Member, asked: Turn) -> None:
    owner.client.delete(f"/chat/sessions/{asked.session_id}")
    page = turn_page(reviewer, asked)
    assert re.search(r"Content erased on \d{4}-\d\d-\d\d \d\d:\d\d UTC by its owner\.", page)
    assert "/reveal" not in page


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("audit", "erase", "--reason", REASON, "--subject"), "Content erased"),
        (("conversations", "forget", "--subject"), "Content erased"),
    ],
)
def test_content_that_an_operator_erased(reviewer: Member, asked: Turn, command: tuple[str, ...], what: str) -> None:
    call_command(*command, asked.session.subject_ref, "--yes", stdout=io.StringIO(), stderr=io.StringIO())
    page = turn_page(reviewer, asked)
    assert re.search(rf"{what} on \d{{4}}-\d\d-\d\d \d\d:\d\d UTC by a command, which names nobody\.", page)
    assert "owner" not in page
    assert "request" not in page.split("<main")[1]


@pytest.mark.parametrize("actor_ref", ["b" * 32, ""])
def test_content_that_went_with_all_of_a_person(asked: Turn, actor_ref: str) -> None:
    # As when the session's own event is of another time than the content's end.
    TurnContent.objects.all().delete()
    ref = asked.session.subject_ref
    facts = {"sessions": 0, "turns": 1, "keys": 1, "held": 0, "reason": REASON, "source": "tests"}
    event_record(
        kind=actions.SUBJECT_ERASED, stream=f"subject:{ref}", actor_ref=actor_ref, facts={"subject_ref": ref, **facts}
    )
    sentence = content_state(asked).sentence
    assert sentence.startswith("Content, with all of this person, erased on ")
    assert sentence.endswith(f" UTC by {actor_ref or 'a command, which names nobody'}.")


def test_content_that_has_expired_and_is_not_purged_yet(asked: Turn) -> None:
    TurnContent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    state = content_state(asked)
    assert state.kind == "purged"
    assert "expired on" in state.sentence


def test_content_under_legal_hold_outlives_its_retention(reviewer: Member, asked: Turn) -> None:
    hold_place(session_id=asked.session_id, reason="A court asked for it", actor_ref="", source="tests")
    TurnContent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    page = turn_page(reviewer, asked)
    assert "Content under legal hold since" in page
    assert "Legal hold placed" in page
    revealed = reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON})
    assert QUESTION in revealed.content.decode()


def test_content_that_was_purged(reviewer: Member, owner: Member, flag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    flag("CONV_TTL_SECONDS", 60)
    turn = Turn.objects.get(pk=ask(owner)["meta"]["turn_id"])
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(days=3))
    monkeypatch.setattr("audit.retention.database_now", timezone.now)
    purge_run()
    assert not TurnContent.objects.exists()
    reviewer.user.refresh_from_db()
    assert len(re.findall(r"Content purged on \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", turn_page(reviewer, turn))) >= 2


def test_content_that_is_gone_without_a_record(asked: Turn) -> None:
    TurnContent.objects.all().delete()
    assert content_state(asked).sentence == "The content is not there, and no record says why."


# The page as a page


@pytest.fixture
def pages(reviewer: Member, asked: Turn) -> dict[str, str]:
    revealed = reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON}).content.decode()
    log_seal()
    return {
        "reveal": revealed,
        "proof": page_of(reviewer, f"{AUDIT}turns/{asked.pk}/proof"),
        "checkpoints": page_of(reviewer, f"{AUDIT}checkpoints/"),
        "verified": reviewer.browser.post(f"{AUDIT}turns/{asked.pk}/verify").content.decode(),
        "search": page_of(reviewer, AUDIT),
        "turn": turn_page(reviewer, asked),
        "events": page_of(reviewer, f"{AUDIT}events/"),
        "event": page_of(reviewer, f"{AUDIT}events/{asked.event_uid}/"),
    }


def test_every_control_has_a_label(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        controls = [
            tag for tag in re.findall(r"<(?:input|select|textarea)\b[^>]*>", page) if 'type="hidden"' not in tag
        ]
        ids = [re.search(r'\bid="([^"]+)"', tag) for tag in controls]
        assert all(ids), name
        assert [found.group(1) for found in ids if found and f'<label for="{found.group(1)}"' not in page] == []


def test_every_description_is_there(pages: dict[str, str]) -> None:
    for page in pages.values():
        named = [
            part for value in re.findall(r'aria-(?:describedby|labelledby)="([^"]+)"', page) for part in value.split()
        ]
        assert [part for part in named if f'id="{part}"' not in page] == []


def test_every_id_is_there_once(pages: dict[str, str]) -> None:
    for page in pages.values():
        ids = re.findall(r'\bid="([^"]+)"', page)
        assert sorted(ids) == sorted(set(ids))


def test_every_table_of_ours_has_a_caption_and_heads(pages: dict[str, str]) -> None:
    for name in ("search", "turn", "verified", "events", "event"):
        tables = re.findall(r"<table.*?</table>", pages[name], re.S)
        assert all("<caption>" in table and 'scope="col"' in table and 'scope="row"' in table for table in tables)


def test_headings_leave_out_no_level(pages: dict[str, str]) -> None:
    for page in pages.values():
        levels = [int(level) for level in re.findall(r"<h([1-6])\b", page)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_no_script_and_no_style_stands_in_a_page(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.search(r"<script|\son\w+=|\sstyle=|<style", page)
        assert 'class="skip"' in page
