"""The Flags page in the admin."""

from typing import Any

import pytest

from audit.models import Event
from flags import snapshot
from flags.models import Flag
from flags.registry import REGISTRY
from tests.cast import Member, permit

pytestmark = pytest.mark.django_db
KILL = "USE_UNIFIED_PIPELINE"
PAGE = "/admin/flags/"


def page_of(member: Member, path: str = PAGE) -> str:
    response = member.browser.get(path)
    assert response.status_code == 200
    text: str = response.content.decode()
    return text


def test_every_flag_is_on_the_page(reviewer: Member) -> None:
    page = page_of(reviewer)
    assert all(f"<code>{key}</code>" in page for key in REGISTRY)


def test_a_kill_switch_goes_off_with_a_reason(flag_manager: Member) -> None:
    assert "Switch off now" in page_of(flag_manager)
    response = flag_manager.browser.post(f"{PAGE}switch-off/{KILL}", {"reason": "wrong answers"}, follow=True)
    page = response.content.decode()
    assert "is off, on every worker" in page
    assert "wrong answers" in page
    assert f"switch-off/{KILL}" not in page
    snapshot.reset()
    assert snapshot.current().boolean(KILL) is False
    assert "wrong answers" in page_of(flag_manager, f"{PAGE}history/{KILL}")


def test_without_a_reason_it_stays_on(flag_manager: Member) -> None:
    response = flag_manager.browser.post(f"{PAGE}switch-off/{KILL}", {"reason": " "}, follow=True)
    assert "a reason is required" in response.content.decode()
    assert Flag.objects.get(name=KILL).everyone is True


def test_a_pinned_flag_says_by_which_variable(flag_manager: Member, override_pins: Any) -> None:
    override_pins(**{KILL: True})
    page = page_of(flag_manager)
    assert "PINNED" in page
    assert f"switch-off/{KILL}" not in page


@pytest.mark.parametrize(
    ("who", "reads"), [("owner", 302), ("operator", 200), ("reviewer", 200), ("flag_manager", 200)]
)
def test_who_may_read(request: pytest.FixtureRequest, who: str, reads: int) -> None:
    member: Member = request.getfixturevalue(who)
    assert member.browser.get(PAGE).status_code == reads
    assert member.browser.get(f"{PAGE}history/{KILL}").status_code == reads


@pytest.mark.parametrize("who", ["owner", "operator", "reviewer"])
def test_nobody_else_switches_off(request: pytest.FixtureRequest, who: str) -> None:
    member: Member = request.getfixturevalue(who)
    before = Event.objects.filter(kind="flag.changed").count()
    assert member.browser.post(f"{PAGE}switch-off/{KILL}", {"reason": "mischief"}).status_code in (302, 403)
    assert Flag.objects.get(name=KILL).everyone is True
    assert Event.objects.filter(kind="flag.changed").count() == before


def test_only_a_kill_switch_has_the_button(flag_manager: Member) -> None:
    assert flag_manager.browser.post(f"{PAGE}switch-off/CONV_DUAL_WRITE", {"reason": "x"}).status_code == 404
    assert flag_manager.browser.get(f"{PAGE}history/NOPE").status_code == 404


def test_what_a_reason_says_is_shown_as_text(flag_manager: Member) -> None:
    flag_manager.browser.post(f"{PAGE}switch-off/{KILL}", {"reason": "<script>alert(1)</script>"})
    assert "<script>alert" not in page_of(flag_manager)
    assert "<script>alert" not in page_of(flag_manager, f"{PAGE}history/{KILL}")


def actions_of(page: str, key: str) -> str:
    """The row's last cell."""
    row = page.split(f"<code>{key}</code><br>")[1].split("</tr>")[0]
    return row.rsplit("<td>", 1)[1]


def test_each_row_offers_what_the_viewers_permissions_allow(reviewer: Member) -> None:
    reviewer.user.groups.clear()
    permit(reviewer, "view_flag", "change_setting", "view_switch")
    page = page_of(reviewer)
    kill = actions_of(page, KILL)
    assert ("Switch off" in kill, ">View<" in kill) == (False, True)
    assert ">Edit<" in actions_of(page, "CONV_MAX_TURNS")
    assert ">View<" in actions_of(page, "CONV_DUAL_WRITE")


def test_what_is_read_at_the_start_is_only_shown(flag_manager: Member) -> None:
    page = page_of(flag_manager)
    assert ">View<" in actions_of(page, "REDIS_SOCKET_TIMEOUT_MS")
    assert "read at the start from the variable <code>REDIS_SOCKET_TIMEOUT_MS</code>" in page


def test_a_row_that_may_not_be_seen_in_the_admin_is_not_linked(reviewer: Member) -> None:
    reviewer.user.groups.clear()
    permit(reviewer, "view_flag")
    assert "href" not in actions_of(page_of(reviewer), "CONV_MAX_TURNS")
    assert reviewer.browser.get(f"{PAGE}history/CONV_MAX_TURNS").status_code == 403
    assert reviewer.browser.get(f"{PAGE}history/{KILL}").status_code == 200


def test_the_page_needs_the_permission_to_see_flags(reviewer: Member) -> None:
    reviewer.user.groups.clear()
    permit(reviewer, "change_setting")
    assert reviewer.browser.get(PAGE).status_code == 403
