"""Finding turns: each filter, the pages of results, and what is said of a filter that is none."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.services import subject_ref_of
from chat.models import Session, Turn
from review.filters import TurnFilters
from review.forms import TurnSearchForm
from review.paging import LOOKED_AT
from tests.cast import Member
from tests.review.turns import API, AUDIT, found_by, found_on, page_of, turns_make

pytestmark = pytest.mark.django_db
ARM = "FEATURE_SUGGESTED_ACTIONS"
# (query, fields of the turn that it finds); GOOD is what the others are.
FILTERS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"outcome": "refused"}, {"outcome": "refused"}),
    ({"endpoint": "enhanced"}, {"endpoint": "enhanced"}),
    ({"model": "m-large"}, {"model": "m-large"}),
    ({"degraded": "yes"}, {"degraded": True}),
    ({"repaired": "yes"}, {"repaired": True}),
    ({"repair_code": "FENCE"}, {"repair_codes": ["BOM", "FENCE"]}),
    ({"reference": "AS 1428.1"}, {"references": [{"text": "B1", "known": True}, {"text": "AS 1428.1", "known": True}]}),
    ({"arm": f"{ARM}=on"}, {"arms": {ARM: True}}),
    ({"arm": f"{ARM}=off"}, {"arms": {ARM: False}}),
    ({"outcome": "degraded", "degraded": "yes"}, {"outcome": "degraded", "degraded": True}),
    ({"outcome": "refused", "repair_code": "REFUSAL"}, {"outcome": "refused", "repair_codes": ["REFUSAL"]}),
]  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {"repair_codes": ["FENCES"], "references": [{"text": "AS 1428", "known": True}]},
    {"arms": {"OTHER": True}},
    {"arms": {}},
]


@pytest.mark.parametrize(("query", "fields"), FILTERS)
def test_a_filter_finds_what_it_names(reviewer: Member, query: dict[str, str], fields: dict[str, Any]) -> None:
    wanted = turns_make(**fields)
    for other in OTHERS:
        turns_make(**other)
    assert found_by(reviewer, **query) == [str(turn.pk) for turn in wanted]
    assert found_on(page_of(reviewer, AUDIT, **query)) == [str(turn.pk) for turn in wanted]


@pytest.mark.parametrize("name", ["degraded", "repaired"])
def test_no_leaves_out_what_was(reviewer: Member, name: str) -> None:
    turns_make(**{name: True})
    plain = turns_make()
    assert found_by(reviewer, **{name: "no"}) == [str(turn.pk) for turn in plain]


def test_by_session_and_by_turn(reviewer: Member) -> None:
    turns_make()
    one, two = turns_make(2)
    assert found_by(reviewer, session=str(one.session_id)) == [str(one.pk), str(two.pk)]
    assert found_by(reviewer, turn=str(two.pk)) == [str(two.pk)]


def test_by_user_name_and_by_pseudonym(reviewer: Member, owner: Member) -> None:
    turns_make()
    ref = subject_ref_of(owner.user)
    (mine,) = turns_make(ref=ref)
    assert found_by(reviewer, user="owner") == found_by(reviewer, user=ref) == [str(mine.pk)]


def test_the_results_name_nobody(reviewer: Member, owner: Member) -> None:
    ref = subject_ref_of(owner.user)
    turns_make(ref=ref)
    page = page_of(reviewer, AUDIT, user="owner")
    rows = page.split("<tbody>")[1].split("</tbody>")[0]
    assert ref in rows
    assert "owner" not in rows
    assert "owner" not in reviewer.get(f"{API}turns", user="owner").content.decode()


def test_from_is_included_and_to_is_not(reviewer: Member) -> None:
    at = timezone.now().replace(microsecond=0)
    (turn,) = turns_make(created_at=at)
    told, later = at.isoformat().replace("+00:00", "Z"), (at + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert found_by(reviewer, **{"from": told}) == [str(turn.pk)]
    assert found_by(reviewer, **{"from": later}) == []
    assert found_by(reviewer, to=told) == []
    assert found_by(reviewer, to=later) == [str(turn.pk)]


def test_the_page_shows_the_last_seven_days_unless_told(reviewer: Member) -> None:
    (old,) = turns_make(created_at=timezone.now() - timedelta(days=8))
    (new,) = turns_make()
    assert found_on(page_of(reviewer, AUDIT)) == [str(new.pk)]
    assert found_on(page_of(reviewer, AUDIT, **{"from": ""})) == [str(new.pk), str(old.pk)]
    assert found_by(reviewer) == [str(new.pk), str(old.pk)]


BAD = [
    ("from", "yesterday"),
    ("to", "2026-13-40T00:00"),
    ("from", "1066-10-14T00:00"),
    ("from", "0001-01-01T00:00:00+14:00"),
    ("to", "9999-12-31T23:59:59-12:00"),
    ("user", "nobody-of-this-name"),
    ("user", "x" * 200),
    ("user", "a\x00b"),
    ("session", "12"),
    ("turn", "not-an-id"),
    ("outcome", "lost"),
    ("endpoint", "/chat"),
    ("repair_code", "NO_SUCH_CODE"),
    ("arm", ARM),
    ("arm", f"{ARM}=maybe"),
    ("arm", "=on"),
    ("model", "m" * 201),
    ("reference", "r" * 201),
    ("reference", "a\x00b"),
    ("degraded", "perhaps"),
    ("repaired", "true"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_400_and_says_what_is_expected(reviewer: Member, name: str, value: str) -> None:
    problem = reviewer.get(f"{API}turns", **{name: value})
    assert problem.status_code == 400
    (sentences,) = [problem.json()["errors"][name]]
    assert sentences[0]
    page = page_of(reviewer, AUDIT, 400, **{name: value})
    assert f'id="id_{name}_error"' in page
    assert "<tbody>" not in page


def test_the_time_must_run_forward(reviewer: Member) -> None:
    problem = reviewer.get(f"{API}turns", **{"from": "2026-02-01T00:00", "to": "2026-01-01T00:00"})
    assert problem.json()["errors"] == {"to": ["Expected a time after “from”."]}


def test_what_is_no_filter_is_refused(reviewer: Member) -> None:
    turns_make()
    assert "Unknown" in reviewer.get(f"{API}turns", outcom="refused").json()["errors"]["outcom"][0]
    assert reviewer.client.get(f"{API}turns?outcome=refused&outcome=answered").status_code == 400


def test_the_model_of_a_turn_without_one_is_its_provider(reviewer: Member) -> None:
    turns_make(model="", provider="extractive")
    assert "extractive" in page_of(reviewer, AUDIT)


# Pages of results


def pages(member: Member, **query: str) -> list[list[str]]:
    found, url = [], f"{API}turns"
    while url:
        page = member.get(url, **query).json() if not found else member.get(url).json()
        found.append([row["turn_id"] for row in page["results"]])
        url = page["next"]
    return found


@pytest.mark.parametrize("query", [{}, {"repair_code": "FENCE"}, {"outcome": "answered", "endpoint": "chat"}])
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "all at once"])
def test_the_cursor_leads_through_all_turns_once(reviewer: Member, apart: bool, query: dict[str, str]) -> None:
    fields = {} if apart else {"created_at": timezone.now()}
    made = turns_make(120, repair_codes=["FENCE"], **fields)
    found = pages(reviewer, **query)
    assert [len(page) for page in found] == [50, 50, 20]
    assert {pk for page in found for pk in page} == {str(turn.pk) for turn in made}
    if apart:
        assert [pk for page in found for pk in page] == [str(turn.pk) for turn in made]


def test_the_page_leads_to_the_older_ones(reviewer: Member) -> None:
    made = turns_make(60, outcome="refused")
    first = page_of(reviewer, AUDIT, outcome="refused")
    assert "50 of more" in first
    (following,) = [part.split('"')[0] for part in first.split('class="button plain" href="?')[1:]]
    second = reviewer.browser.get(f"{AUDIT}?{following.replace('&amp;', '&')}").content.decode()
    assert found_on(first) + found_on(second) == [str(turn.pk) for turn in made]
    assert "of more" not in second


@pytest.mark.parametrize("cursor", ["x", "a:b:c", "A" * 5000, "\x00"])
def test_a_cursor_that_we_did_not_give_is_400(reviewer: Member, cursor: str) -> None:
    turns_make()
    assert reviewer.get(f"{API}turns", cursor=cursor).json()["code"] == "bad_cursor"
    assert "not one of ours" in page_of(reviewer, AUDIT, 400, cursor=cursor)


@pytest.mark.parametrize("rare", [1, 51])
def test_what_is_rare_among_the_newest_is_found_among_the_old(reviewer: Member, rare: int) -> None:
    """Beyond the newest LOOKED_AT turns, which are looked through first."""
    ages = timezone.now() - timedelta(days=400)
    wanted = turns_make(rare, repair_codes=["TRUNCATED"], created_at=ages)
    session = Session.objects.create(id=uuid.uuid4(), subject_ref="b" * 32, created_at=ages, last_turn_at=ages)
    turns_make(LOOKED_AT + 2, session=session)
    found = pages(reviewer, repair_code="TRUNCATED")
    assert {pk for page in found for pk in page} == {str(turn.pk) for turn in wanted}
    (newest,) = turns_make(repair_codes=["TRUNCATED"])
    assert pages(reviewer, repair_code="TRUNCATED")[0][0] == str(newest.pk)


@pytest.mark.parametrize("count", [20, 40])
@pytest.mark.parametrize("query", [{}, {"repair_code": "FENCE"}], ids=["all", "filtered"])
def test_the_list_costs_the_same_for_n_and_2n(
    reviewer: Member, count: int, query: dict[str, str], django_assert_num_queries: Any
) -> None:
    for _ in range(count):
        turns_make(repair_codes=["FENCE"])
    page_of(reviewer, AUDIT)
    # 1 browser session, 2 user, 3 and 4 permissions, 5 turns, 6 their sessions; filtered, 7 how far to look first.
    with django_assert_num_queries(7 if query else 6):
        assert len(found_on(page_of(reviewer, AUDIT, **query))) == count


def test_filters_go_on_record_and_come_back() -> None:
    (turn,) = turns_make(repair_codes=["FENCE"], references=[{"text": "D3D14", "known": True}], arms={ARM: False})
    for query in (
        {"subject_ref": "a" * 32, "since": turn.created_at, "until": turn.created_at + timedelta(seconds=1)},
        {"session": turn.session_id, "turn": turn.pk, "outcome": "answered", "repaired": False},
        {"repair_code": "FENCE", "reference": "D3D14"},
    ):
        filters = TurnFilters(**query)  # type: ignore[arg-type]
        assert TurnFilters.of_facts(filters.facts()) == filters
        assert filters.covers(turn)


@pytest.mark.parametrize(("query", "fields"), FILTERS)
def test_a_filter_holds_one_turn_to_the_same_rule_as_the_database(
    query: dict[str, str], fields: dict[str, Any]
) -> None:
    form = TurnSearchForm(query)
    form.check()
    turns_make(**fields)
    for other in OTHERS:
        turns_make(**other)
    matching = [turn for turn in Turn.objects.all() if form.filters().covers(turn)]
    assert [turn.outcome for turn in matching] == [fields.get("outcome", "answered")]
