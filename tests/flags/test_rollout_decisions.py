"""The decision of one look, and of whole rollouts under simulated traffic: no database, no clock."""

import math
import random
from collections import deque
from collections.abc import Iterator

import pytest

from flags.rollouts import LOOK_SECONDS, Arm, Arms, Measured, Progress, Verdict, decide, first_stage, next_stage, wilson

LOOKS_A_WINDOW = 6
RUNS = 1000
EVEN = Arms(Arm(600, 6), Arm(5400, 54))
WORSE = Arms(Arm(600, 60), Arm(5400, 54))


def look(progress: Progress, window: Arms, *, fresh: Arms | None = None, elapsed: float = 10, slo: str = "") -> Verdict:
    return decide(progress, Measured(window, window if fresh is None else fresh, slo), elapsed=elapsed)


# The interval


@pytest.mark.parametrize(
    ("errors", "turns", "low", "high"),
    # From the closed form, by hand: z 1.96, and 2.58 for the last.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_the_interval_is_wilsons(errors: int, turns: int, low: float, high: float) -> None:
    assert wilson(errors, turns, z=1.96) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_of_an_arm_without_turns() -> None:
    assert Arm().bounds == (0.0, 1.0)


# One look


def test_a_worse_canary_is_let_go_on_once_and_not_twice() -> None:
    first = look(Progress(1000), WORSE)
    assert (first.action, first.progress.suspect) == ("hold", True)
    second = look(first.progress, WORSE)
    assert second.action == "trip"
    assert "60 of 600 (10.00 %" in second.reason


def test_one_good_look_between_clears_the_suspicion() -> None:
    first = look(Progress(1000), WORSE)
    between = look(first.progress, EVEN)
    assert look(between.progress, WORSE).action == "hold"


@pytest.mark.parametrize(("turns", "action"), [(199, "hold"), (200, "trip")])
def test_a_window_with_few_turns_of_the_canary_says_nothing(turns: int, action: str) -> None:
    window = Arms(Arm(turns, turns // 2), Arm(5400, 54))
    assert look(Progress(1000, suspect=True), window).action == action


def test_half_a_point_more_is_no_reason_to_trip() -> None:
    """With turns without number the bounds are the shares themselves, and only the margin is left."""
    million = 10**9
    assert not Arms(Arm(million, 14 * 10**6), Arm(million, 10**7)).canary_is_worse
    assert Arms(Arm(million, 16 * 10**6), Arm(million, 10**7)).canary_is_worse


def test_an_slo_that_is_broken_trips_at_once_and_is_the_reason() -> None:
    verdict = look(Progress(1000), EVEN, slo="5xx over the objective")
    assert (verdict.action, verdict.reason) == ("trip", "5xx over the objective")


def test_a_stage_that_has_been_held_with_traffic_is_left() -> None:
    assert look(Progress(1000, held_seconds=589), EVEN).action == "hold"
    assert look(Progress(1000, held_seconds=590), EVEN).action == "advance"
    assert look(Progress(10_000, held_seconds=590), Arms(Arm(600, 6), Arm())).action == "complete"


@pytest.mark.parametrize("window", [Arms(), Arms(Arm(600, 6), Arm()), Arms(Arm(), Arm(600, 6))])
def test_without_both_arms_time_does_not_count(window: Arms) -> None:
    verdict = look(Progress(1000, held_seconds=10_000, totals=EVEN), window)
    assert (verdict.action, verdict.progress.held_seconds) == ("hold", 10_000)
    assert verdict.reason == "no traffic to compare"


def test_a_stage_waits_for_two_hundred_turns_of_the_canary() -> None:
    window = Arms(Arm(6, 0), Arm(500, 5))
    assert look(Progress(100, held_seconds=9000, totals=Arms(Arm(193, 1), Arm(9, 0))), window).action == "hold"
    assert look(Progress(100, held_seconds=9000, totals=Arms(Arm(194, 1), Arm(9, 0))), window).action == "advance"


def test_a_pause_of_the_leader_is_not_time_that_was_watched() -> None:
    assert look(Progress(1000), EVEN, elapsed=3600).progress.held_seconds == 30


def test_a_canary_too_thin_for_the_window_is_judged_by_its_whole_stage() -> None:
    """At 1 % of modest traffic a minute never holds 200 turns of the canary; the stage does."""
    window = Arms(Arm(30, 9), Arm(3000, 30))
    seen = Arms(Arm(270, 81), Arm(27_000, 270))
    verdict = look(Progress(100, held_seconds=600, totals=seen), window)
    assert (verdict.action, verdict.reason.split(":")[0]) == ("trip", "over the whole stage")


def test_stages_go_up_and_begin_where_the_flag_is() -> None:
    assert [first_stage(share) for share in (0, 100, 101, 2000, 5000, 10_000)] == [100, 100, 1000, 5000, 5000, 10_000]
    assert [next_stage(stage) for stage in (100, 1000, 5000)] == [1000, 5000, 10_000]


# Whole rollouts


def errors_of(turns: int, rate: float, rng: random.Random) -> int:
    """A draw of the binomial distribution, by the gaps between errors."""
    found, at = 0, 0
    while True:
        at += 1 + int(math.log(1 - rng.random()) / math.log(1 - rate))
        if at > turns:
            return found
        found += 1


def traffic(rng: random.Random, *, canary: int, control: int, rate: float, canary_rate: float) -> Iterator[Measured]:
    """Looks at so many turns each, as the leader would measure them."""
    last: deque[Arms] = deque(maxlen=LOOKS_A_WINDOW)
    while True:
        arms = Arms(Arm(canary, errors_of(canary, canary_rate, rng)), Arm(control, errors_of(control, rate, rng)))
        last.append(arms)
        yield Measured(sum(last, Arms()), arms)


def run(seed: int, *, seconds: int, canary_rate: float) -> float | None:
    """100 turns a second, a tenth of them the canary's, 1 % errors else: seconds until the trip, or None."""
    progress, looks = (
        Progress(1000),
        traffic(random.Random(seed), canary=100, control=900, rate=0.01, canary_rate=canary_rate),
    )
    for number in range(1, seconds // LOOK_SECONDS + 1):
        verdict = decide(progress, next(looks), elapsed=LOOK_SECONDS)
        if verdict.action == "trip":
            return number * LOOK_SECONDS
        progress = verdict.progress
    assert progress.held_seconds > 0
    return None


def test_of_a_thousand_healthy_canaries_of_ten_minutes_fewer_than_ten_trip() -> None:
    tripped = [seed for seed in range(RUNS) if run(seed, seconds=600, canary_rate=0.01) is not None]
    assert len(tripped) < RUNS / 100, tripped


def test_of_a_thousand_canaries_with_five_times_the_errors_nearly_all_trip_within_two_minutes() -> None:
    times = [run(seed, seconds=600, canary_rate=0.05) for seed in range(RUNS)]
    within = [seconds for seconds in times if seconds is not None and seconds <= 120]
    assert len(within) >= RUNS * 99 / 100
