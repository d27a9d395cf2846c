"""manage.py flags: list, get, set, rollout, history."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import Event
from audit.services import subject_ref_of
from flags import snapshot
from flags.models import Flag, Setting
from flags.registry import REGISTRY
from tests.cast import Member

pytestmark = pytest.mark.django_db
KILL, TURNS, PROMPTS = "USE_UNIFIED_PIPELINE", "CONV_MAX_TURNS", "FEATURE_DYNAMIC_PROMPTS"


def flags(*arguments: str) -> str:
    out = io.StringIO()
    call_command("flags", *arguments, stdout=out)
    return out.getvalue()


def last_change() -> dict[str, Any]:
    event = Event.objects.filter(kind="flag.changed").order_by("-stream_seq").first()
    assert event
    body: dict[str, Any] = json.loads(bytes(event.body))
    return body


def test_the_list_names_every_flag() -> None:
    header, *lines = flags("list").splitlines()
    assert header.split() == ["FLAG", "STATE", "KIND", "REMARKS"]
    assert [header.index("STATE"), header.index("KIND")] == [
        lines[0].index(" on ") + 1,
        lines[0].index("kill-switch"),
    ]
    assert [line.split()[0] for line in lines] == list(REGISTRY)
    assert [entry["key"] for entry in json.loads(flags("list", "--json"))] == list(REGISTRY)


def test_a_kill_switch_is_turned_off_with_a_reason_on_record(flag_manager: Member) -> None:
    assert flags("set", KILL, "off", "--reason", "wrong answers", "--as", "flag_manager") == f"{KILL}: off\n"
    snapshot.reset()
    assert snapshot.current().boolean(KILL) is False
    body = last_change()
    assert body["actor"] == subject_ref_of(flag_manager.user)
    assert (body["facts"]["key"], body["facts"]["reason"], body["facts"]["source"]) == (
        KILL,
        "wrong answers",
        "command",
    )


def test_a_kill_switch_without_a_reason_stays() -> None:
    with pytest.raises(CommandError, match="a reason is required: --reason WHY"):
        flags("set", KILL, "off")
    assert Flag.objects.get(name=KILL).everyone is True


@pytest.mark.parametrize(("key", "value", "says"), [
    (TURNS, "500", "a whole number from 0 to 200"),
    (TURNS, "many", "a whole number"),
    (TURNS, "1.5", "a whole number"),
    ("CONV_STORE_PRIMARY", "paper", "one of"),
    (KILL, "maybe", "on or off"),
    ("NOPE", "on", "not a registered flag"),
])  # fmt: skip
def test_a_bad_value_says_what_is_expected(key: str, value: str, says: str) -> None:
    before = Event.objects.count()
    with pytest.raises(CommandError, match=says):
        flags("set", key, value, "--reason", "a test")
    assert Event.objects.count() == before


def test_a_setting_is_set() -> None:
    assert flags("set", TURNS, "4") == f"{TURNS}: 4\n"
    assert Setting.objects.get(key=TURNS).value_json == 4


def test_a_pinned_flag_is_refused_and_shown_as_pinned(override_pins: Any) -> None:
    override_pins(**{KILL: False})
    with pytest.raises(CommandError, match="pinned by the environment variable"):
        flags("set", KILL, "on", "--reason", "a test")
    assert f"PINNED by {KILL}" in flags("get", KILL)


def test_a_share_is_rolled_out() -> None:
    assert flags("rollout", PROMPTS, "12.5") == f"{PROMPTS}: 12.5 %\n"
    row = Flag.objects.get(name=PROMPTS)
    assert (row.everyone, row.rollout_bp) == (None, 1250)


@pytest.mark.parametrize("percent", ["-1", "100.01", "0.001", "nan"])
def test_a_share_out_of_bounds_is_refused(percent: str) -> None:
    with pytest.raises((CommandError, ValueError)):
        flags("rollout", PROMPTS, percent)
    assert Flag.objects.get(name=PROMPTS).everyone is True


def test_a_setting_has_no_share() -> None:
    with pytest.raises(CommandError, match="no cohorts"):
        flags("rollout", TURNS, "10")


def test_the_history_tells_old_new_who_and_why(flag_manager: Member) -> None:
    flags("set", KILL, "off", "--reason", "first", "--as", "flag_manager")
    flags("rollout", KILL, "5", "--reason", "second")
    second, first, *_ = flags("history", KILL).splitlines()
    assert "off for everyone -> 5 % of subjects" in second
    assert second.endswith("second")
    assert "by flag_manager (command): first" in first
    assert len(flags("history", "--limit", "1").splitlines()) == 1


def test_an_unknown_user_changes_nothing() -> None:
    with pytest.raises(CommandError, match="no user nobody"):
        flags("set", TURNS, "4", "--as", "nobody")
