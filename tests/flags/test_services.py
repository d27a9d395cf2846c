"""Setting a flag for everyone, or a setting."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings
from django.db import OperationalError

from audit.models import Event
from flags import snapshot
from flags.models import Flag, FlagsEpoch, FlagUse, Setting, Switch
from flags.registry import REGISTRY, BadValue, UnknownFlag, Value
from flags.services import Pinned, ReasonRequired, flag_set, rows_ensure, uses_flush
from flags.snapshot import used_take

pytestmark = pytest.mark.django_db
BOOT = [key for key, entry in REGISTRY.items() if entry.boot]


def change(key: str, value: Any, reason: str = "the pipeline fails") -> None:
    flag_set(key=key, value=value, actor_ref="a" * 32, reason=reason, source="tests")
    snapshot.reset()


def changes() -> list[dict[str, Any]]:
    events = Event.objects.filter(kind="flag.changed").order_by("stream_seq")
    return [json.loads(bytes(event.body)) for event in events]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("USE_UNIFIED_PIPELINE", False),
        ("FEATURE_DYNAMIC_PROMPTS", False),
        ("CONV_DUAL_WRITE", True),
        ("CONV_STORE_PRIMARY", "redis"),
        ("CONV_MAX_TURNS", 0),
        ("LLM_TIMEOUT_MS", 1500),
        ("SCHEMA_REPAIR_RATE_ALERT", 0.25),
    ],
)
def test_a_flag_that_is_set_is_in_force(key: str, value: Value) -> None:
    change(key, value)
    assert snapshot.current().evaluate(None)[key] == value


def test_a_change_is_on_record_with_who_what_and_why() -> None:
    change("CONV_MAX_TURNS", 5)
    event = changes()[-1]
    assert event["actor"] == "a" * 32
    assert event["facts"] == {
        "key": "CONV_MAX_TURNS",
        "old": {"value": None},
        "new": {"value": 5},
        "reason": "the pipeline fails",
        "source": "tests",
        "epoch": FlagsEpoch.objects.get(pk=1).epoch,
    }


def test_a_share_goes_on_record_as_text() -> None:
    change("SCHEMA_REPAIR_RATE_ALERT", 0.25)
    assert changes()[-1]["facts"]["new"] == {"value": "0.25"}


def test_setting_what_is_set_already_changes_nothing() -> None:
    change("CONV_MAX_TURNS", 5)
    before = (len(changes()), FlagsEpoch.objects.get(pk=1).epoch)
    change("CONV_MAX_TURNS", 5)
    assert (len(changes()), FlagsEpoch.objects.get(pk=1).epoch) == before


def test_a_setting_counts_its_versions() -> None:
    before = Setting.objects.get(key="CONV_MAX_TURNS").version
    change("CONV_MAX_TURNS", 5)
    assert Setting.objects.get(key="CONV_MAX_TURNS").version == before + 1


@pytest.mark.parametrize("model", [Flag, Switch, Setting])
def test_a_flag_whose_row_is_gone_can_be_set(model: Any) -> None:
    key, value = {Flag: ("FEATURE_DYNAMIC_PROMPTS", False), Switch: ("CONV_DUAL_WRITE", True)}.get(
        model, ("CONV_MAX_TURNS", 5)
    )
    model.objects.all().delete()
    change(key, value)
    assert snapshot.current().evaluate(None)[key] == value


@pytest.mark.parametrize("key", ["NO_SUCH_FLAG", "", "conv_max_turns"])
def test_an_unknown_flag_cannot_be_set(key: str) -> None:
    with pytest.raises(UnknownFlag):
        change(key, True)
    assert not Flag.objects.filter(name=key).exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("USE_UNIFIED_PIPELINE", "off"),
        ("USE_UNIFIED_PIPELINE", 0),
        ("CONV_DUAL_WRITE", None),
        ("CONV_STORE_PRIMARY", "cassandra"),
        ("CONV_MAX_TURNS", -1),
        ("CONV_MAX_TURNS", True),
        ("CONV_MAX_TURNS", "5"),
        ("LLM_TIMEOUT_MS", 99),
        ("SCHEMA_REPAIR_RATE_ALERT", float("nan")),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(key: str, value: Any) -> None:
    before = len(changes())
    with pytest.raises(BadValue, match="expected"):
        change(key, value)
    assert len(changes()) == before
    assert snapshot.current().evaluate(None)[key] == REGISTRY[key].default


def test_a_pinned_flag_is_refused_by_the_name_of_its_variable(override_pins: Callable[..., None]) -> None:
    override_pins(CONV_MAX_TURNS=5)
    with pytest.raises(Pinned, match="environment variable CONV_MAX_TURNS"):
        change("CONV_MAX_TURNS", 6)
    assert Setting.objects.get(key="CONV_MAX_TURNS").value_json is None


@pytest.mark.parametrize("key", BOOT)
def test_what_is_read_at_the_start_cannot_be_changed_in_the_database(key: str) -> None:
    before = len(changes())
    with pytest.raises(Pinned, match=f"set the variable {key} and restart"):
        change(key, 500)
    assert len(changes()) == before


@pytest.mark.parametrize("key", BOOT)
def test_a_row_of_what_is_read_at_the_start_has_no_effect(key: str, override_pins: Callable[..., None]) -> None:
    Setting.objects.filter(key=key).update(value_json=500)
    snapshot.reset()
    assert snapshot.current().evaluate(None)[key] == REGISTRY[key].default == getattr(settings, key)
    override_pins(**{key: 300})
    assert snapshot.current().evaluate(None)[key] == 300


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_a_kill_switch_needs_a_reason(reason: str) -> None:
    with pytest.raises(ReasonRequired, match="USE_UNIFIED_PIPELINE"):
        change("USE_UNIFIED_PIPELINE", False, reason)
    assert Flag.objects.get(name="USE_UNIFIED_PIPELINE").everyone is True


def test_another_flag_needs_no_reason() -> None:
    change("FEATURE_DYNAMIC_PROMPTS", False, "")
    assert changes()[-1]["facts"]["reason"] == ""


# The rows


def test_every_registered_flag_has_a_row() -> None:
    names = [*Flag.objects.values_list("name", flat=True), *Switch.objects.values_list("name", flat=True)]
    assert sorted([*names, *Setting.objects.values_list("key", flat=True)]) == sorted(REGISTRY)


def test_a_fresh_database_behaves_by_the_defaults() -> None:
    assert snapshot.current().evaluate(None) == {key: entry.default for key, entry in REGISTRY.items()}


def test_making_the_rows_again_leaves_them_as_they_are() -> None:
    change("USE_UNIFIED_PIPELINE", False)
    before = len(changes())
    Switch.objects.filter(name="CONV_DUAL_WRITE").delete()
    rows_ensure()
    assert Flag.objects.get(name="USE_UNIFIED_PIPELINE").everyone is False
    assert [event["facts"]["source"] for event in changes()[before:]] == ["code", "migrate"]


@pytest.mark.parametrize("value", [{"a": 1}, "sixteen", -5, True, [16]])
def test_a_value_that_was_written_past_all_checks_is_not_in_force(value: Any) -> None:
    Setting.objects.filter(key="CONV_MAX_TURNS").update(value_json=value)
    Setting.objects.bulk_create([Setting(key="LEFT_OVER", value_json=value)])
    snapshot.reset()
    assert snapshot.current().number("CONV_MAX_TURNS") == 16
    assert "LEFT_OVER" not in snapshot.current().evaluate(None)


# What is asked for


def asked(key: str = "CONV_MAX_TURNS") -> datetime | None:
    snapshot.current().number(key)
    uses_flush()
    return FlagUse.objects.values_list("evaluated_at", flat=True).filter(pk=key).first()


def test_a_use_is_put_down_at_once_and_then_once_an_hour(
    django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot.current()
    used_take()
    first = asked()
    assert first
    with django_assert_num_queries(1):
        assert asked() == first
    monkeypatch.setattr("flags.services.FLUSH_SECONDS", 0.0)
    assert asked() != first


def test_a_use_that_could_not_be_put_down_is_put_down_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FlagUse.objects, "bulk_create", Mock(side_effect=OperationalError))
        with pytest.raises(OperationalError):
            asked()
    assert asked()


def test_another_flags_first_use_is_put_down_at_once() -> None:
    asked()
    assert asked("LLM_TIMEOUT_MS")


# What a read costs


def test_a_snapshot_that_is_fresh_costs_no_query(django_assert_num_queries: Any) -> None:
    snapshot.current()
    with django_assert_num_queries(0):
        snapshot.current().evaluate(None)


def test_a_first_snapshot_costs_six_queries(django_assert_num_queries: Any) -> None:
    # epoch; listed users; listed groups; flags; switches; settings
    with django_assert_num_queries(6):
        snapshot.current()


def test_confirming_a_snapshot_costs_one_query(django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read_at = snapshot.current().read_at
    monkeypatch.setattr("time.monotonic", lambda: read_at + 1)
    # epoch
    with django_assert_num_queries(1):
        snapshot.current()
