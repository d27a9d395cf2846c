"""Types, bounds and environment pins of every registered flag."""

import math
from typing import Any

import pytest

from flags.registry import REGISTRY, BadValue, UnknownFlag, pins_read, registered
from onesource.env import EnvError

# DESIGN sections 7 and 11.
DEFAULTS = {
    "USE_UNIFIED_PIPELINE": True,
    "CONV_STORE_PRIMARY": "database",
    "CONV_DUAL_WRITE": False,
    "FEATURE_DYNAMIC_PROMPTS": True,
    "FEATURE_SUGGESTED_ACTIONS": True,
    "CONV_TTL_SECONDS": 2_592_000,
    "CONV_MAX_TURNS": 16,
    "SCHEMA_REPAIR_RATE_ALERT": 0.005,
    "REDIS_SOCKET_TIMEOUT_MS": 200,
    "REDIS_CONNECT_TIMEOUT_MS": 100,
    "LLM_TIMEOUT_MS": 20_000,
    "RATE_LIMIT_PER_USER": 30,
    "RENDER_P95_BUDGET_MS": 150,
}
NUMBERS = [key for key, entry in REGISTRY.items() if entry.type == "number"]
BOOLEANS = [key for key, entry in REGISTRY.items() if entry.is_boolean]


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items())
def test_a_flag_has_the_default_of_the_design(key: str, default: Any) -> None:
    assert registered(key).default == default


@pytest.mark.parametrize("entry", REGISTRY.values(), ids=REGISTRY)
def test_a_flag_says_who_owns_it_and_what_it_does(entry: Any) -> None:
    assert entry.owner
    assert entry.description.endswith(".")
    assert entry.kind in ("release", "experiment", "operational", "kill-switch", "permission")
    assert entry.check(entry.default) == entry.default


@pytest.mark.parametrize("entry", [e for e in REGISTRY.values() if e.kind in ("release", "experiment")], ids=str)
def test_a_flag_that_is_not_for_good_says_how_long_it_lives(entry: Any) -> None:
    assert entry.lifetime_days


def test_the_pipeline_is_a_kill_switch() -> None:
    assert registered("USE_UNIFIED_PIPELINE").kind == "kill-switch"


@pytest.mark.parametrize("key", ["", "NOPE", "use_unified_pipeline", "USE_UNIFIED_PIPELINE "])
def test_asking_for_an_unknown_flag_raises(key: str) -> None:
    with pytest.raises(UnknownFlag, match="not a registered"):
        registered(key)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_takes_its_bounds_and_nothing_beyond(key: str) -> None:
    entry = registered(key)
    step = 1 if entry.whole else 0.001
    assert entry.check(entry.minimum) == entry.minimum
    assert entry.check(entry.maximum) == entry.maximum
    for beyond in (entry.minimum - step, entry.maximum + step):
        with pytest.raises(BadValue, match=r"expected a (whole )?number from .* to "):
            entry.check(beyond)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [True, False, "16", None, [], {}, math.nan, math.inf, -math.inf])
def test_a_number_is_no_other_type(key: str, value: object) -> None:
    with pytest.raises(BadValue):
        registered(key).check(value)


@pytest.mark.parametrize("value", [16.5, 0.1])
def test_a_whole_number_has_no_fraction(value: float) -> None:
    with pytest.raises(BadValue, match="whole"):
        registered("CONV_MAX_TURNS").check(value)


def test_a_whole_number_written_as_a_float_is_taken_for_what_it_is() -> None:
    assert isinstance(registered("CONV_MAX_TURNS").check(16.0), int)


@pytest.mark.parametrize("key", BOOLEANS)
@pytest.mark.parametrize("value", [0, 1, "on", "true", None, 1.0, []])
def test_a_switch_is_on_or_off_and_nothing_else(key: str, value: object) -> None:
    with pytest.raises(BadValue, match="on or off"):
        registered(key).check(value)


@pytest.mark.parametrize("value", ["Redis", "", "memcached", " redis", None, True, 1])
def test_a_choice_is_one_of_those_named(value: object) -> None:
    with pytest.raises(BadValue, match="redis, "):
        registered("CONV_STORE_PRIMARY").check(value)


def test_what_is_read_at_the_start_is_marked() -> None:
    boot = {key for key, entry in REGISTRY.items() if entry.boot}
    assert boot == {"REDIS_SOCKET_TIMEOUT_MS", "REDIS_CONNECT_TIMEOUT_MS"}


# Pins


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("USE_UNIFIED_PIPELINE", "off", False),
        ("FEATURE_DYNAMIC_PROMPTS", "0", False),
        ("CONV_DUAL_WRITE", " YES ", True),
        ("CONV_STORE_PRIMARY", "redis", "redis"),
        ("CONV_MAX_TURNS", "0", 0),
        ("LLM_TIMEOUT_MS", " 1500 ", 1500),
        ("SCHEMA_REPAIR_RATE_ALERT", "0.01", 0.01),
    ],
)
def test_a_variable_pins_its_flag(monkeypatch: pytest.MonkeyPatch, key: str, text: str, value: Any) -> None:
    monkeypatch.setenv(key, text)
    assert pins_read() == {key: value}


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_pins_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("USE_UNIFIED_PIPELINE", text)
    assert pins_read() == {}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("USE_UNIFIED_PIPELINE", "maybe"),
        ("USE_UNIFIED_PIPELINE", "2"),
        ("FEATURE_SUGGESTED_ACTIONS", "50%"),
        ("CONV_DUAL_WRITE", "None"),
        ("CONV_STORE_PRIMARY", "cassandra"),
        ("CONV_STORE_PRIMARY", "REDIS"),
        ("CONV_TTL_SECONDS", "59"),
        ("CONV_TTL_SECONDS", "30 days"),
        ("CONV_MAX_TURNS", "-1"),
        ("CONV_MAX_TURNS", "16.5"),
        ("CONV_MAX_TURNS", "1e1"),
        ("LLM_TIMEOUT_MS", "600001"),
        ("LLM_TIMEOUT_MS", "20s"),
        ("RATE_LIMIT_PER_USER", "0"),
        ("SCHEMA_REPAIR_RATE_ALERT", "1.01"),
        ("SCHEMA_REPAIR_RATE_ALERT", "nan"),
        ("SCHEMA_REPAIR_RATE_ALERT", "inf"),
        ("SCHEMA_REPAIR_RATE_ALERT", "0,5"),
    ],
)
def test_a_pin_that_does_not_parse_stops_the_boot_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, key: str, text: str
) -> None:
    monkeypatch.setenv(key, text)
    with pytest.raises(EnvError, match=f"Environment variable {key}: expected") as caught:
        pins_read()
    assert caught.value.name == key
