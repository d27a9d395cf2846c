"""What the guard of a rollout counts, on the record's own tables."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from flags.guarded import GuardedRollout
from flags.rollouts import Arm, Measured
from ops.arms import arms_read
from tests.ops.turns import KEY, failures_make, turns_make

pytestmark = pytest.mark.django_db


def rollout(**fields: Any) -> GuardedRollout:
    started = timezone.now() - timedelta(minutes=30)
    return GuardedRollout(key=KEY, stage_bp=1000, started_at=started, **fields)


def read(**fields: Any) -> Measured:
    return arms_read(rollout(**fields))


def test_each_turn_counts_for_the_arm_that_it_was_in() -> None:
    turns_make(3, canary=True)
    turns_make(5, canary=False)
    turns_make(7, canary=None)
    turns_make(9, canary=True, key="USE_UNIFIED_PIPELINE")
    window = read().window
    assert (window.canary, window.control) == (Arm(3, 0), Arm(5, 0))


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "degraded"},
        {"context": "lost"},
        {"repair_codes": ["BOM", "RAW_FALLBACK"]},
        {"repair_codes": ["EMPTY"]},
        {"outcome": "refused", "repair_codes": ["REFUSAL"]},
    ],
)
def test_an_improper_answer_is_an_error(fields: dict[str, Any]) -> None:
    turns_make(2, canary=True, **fields)
    turns_make(1, canary=True)
    assert read().window.canary == Arm(3, 2)


@pytest.mark.parametrize(
    "fields",
    [{"outcome": "declined"}, {"context": "rebuilt"}, {"repaired": True, "repair_codes": ["BOM", "TRUNCATED"]}],
)
def test_a_proper_answer_is_none(fields: dict[str, Any]) -> None:
    turns_make(2, canary=True, **fields)
    assert read().window.canary == Arm(2, 0)


def test_a_turn_that_its_asker_ended_is_not_counted() -> None:
    turns_make(2, canary=True, outcome="aborted")
    assert read().window.canary == Arm(0, 0)


def test_a_turn_that_failed_is_a_turn_and_an_error() -> None:
    turns_make(3, canary=False)
    failures_make(2, canary=True)
    failures_make(1, canary=False)
    window = read().window
    assert (window.canary, window.control) == (Arm(2, 2), Arm(4, 1))


def test_the_window_is_a_minute_and_the_fresh_part_what_came_since_the_last_look() -> None:
    now = timezone.now()
    for seconds, count in ((5, 1), (30, 10), (70, 100)):
        turns_make(count, canary=True, at=now - timedelta(seconds=seconds))
        failures_make(count, canary=True, at=now - timedelta(seconds=seconds))
    measured = arms_read(rollout(looked_at=now - timedelta(seconds=10)), now)
    assert (measured.window.canary, measured.fresh.canary) == (Arm(22, 11), Arm(2, 1))


def test_nothing_from_before_the_rollout_counts() -> None:
    """After an acknowledged trip the next rollout would begin with the bad turns of the last one."""
    now = timezone.now()
    turns_make(9, canary=True, at=now - timedelta(seconds=30))
    turns_make(1, canary=True, at=now - timedelta(seconds=5))
    young = GuardedRollout(key=KEY, stage_bp=100, started_at=now - timedelta(seconds=20))
    assert arms_read(young, now).window.canary == Arm(1, 0)


def test_two_queries_however_many_turns(django_assert_num_queries: Any) -> None:
    turns_make(300, canary=True)
    turns_make(300, canary=False)
    # turns; failures
    with django_assert_num_queries(2):
        read()


# SLOs


def test_turns_without_an_answer_break_the_objective_whatever_the_control_does() -> None:
    for canary in (True, False):
        turns_make(290, canary=canary)
        failures_make(10, canary=canary)
    assert "10 of 300 turns of the canary got no answer" in read().slo_breach


@pytest.mark.parametrize(("turns", "failures"), [(299, 1), (100, 20)])
def test_one_failure_or_few_turns_break_nothing(turns: int, failures: int) -> None:
    turns_make(turns, canary=True)
    failures_make(failures, canary=True)
    assert read().slo_breach == ""


@pytest.mark.parametrize(("endpoint", "limit"), [("chat", 1_500_000), ("enhanced", 1_600_000)])
def test_a_canary_that_is_slow_where_the_control_is_not_breaks_the_objective(endpoint: str, limit: int) -> None:
    turns_make(200, canary=True, endpoint=endpoint, total_us=limit)
    turns_make(50, canary=True, endpoint=endpoint, total_us=limit + 1)
    turns_make(250, canary=False)
    assert "50 of 250 turns of the canary took too long" in read().slo_breach


def test_a_provider_that_is_slow_for_all_is_not_the_canarys_doing() -> None:
    for canary in (True, False):
        turns_make(250, canary=canary, total_us=5_000_000)
    assert read().slo_breach == ""
