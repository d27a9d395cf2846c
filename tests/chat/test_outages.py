"""Conversations under load while parts fail: nothing lost, doubled or out of order, and no context missing.

The times are for `python -m tests.bench.outages`, which has more faults and lets them last.
"""

from collections.abc import Iterator

import pytest

from tests.bench.outages import Stage, measure, staged
from tests.services import need

# With the breaker open no turn waits for what is away; a busy machine is slow all the same.
WORST_SECONDS = 5.0


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    for service in ("redis", "mongo", "postgres"):
        need(service)
    with staged() as everything:
        yield everything


@pytest.mark.parametrize(
    "fault", ["redis-stopped", "redis-reset", "redis-disk-full", "mongo-killed", "primary-switched", "workers-killed"]
)
def test_an_outage_costs_no_turn_and_no_context(stage: Stage, fault: str) -> None:
    row = measure(stage, fault, seconds=4, healthy_seconds=1, recovery_seconds=2)
    assert row.gave_up == 0
    assert row.kept.answered > 20
    assert (row.kept.lost, row.kept.doubled, row.kept.disordered) == (0, 0, 0)
    stretches = (row.healthy, row.during, row.after)
    assert sum(stretch.follow_ups for stretch in stretches) > 10
    assert [stretch.context_share for stretch in stretches] == [1.0, 1.0, 1.0]
    assert [stretch.errors_5xx for stretch in stretches] == [0, 0, 0]
    assert row.settled.worst < WORST_SECONDS
