"""What a guarded rollout is judged by: turns and errors of both arms, from the record of the turns."""

from datetime import datetime, timedelta

from django.db.models import Count, Q, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from chat.guard.codes import CODES, Class
from chat.models import Turn, TurnFailure
from flags.guarded import GuardedRollout
from flags.rollouts import ENOUGH_TURNS, MARGIN, WINDOW_SECONDS, Arm, Arms, Measured, wilson

# The objectives of docs/decisions/0010: turns without an answer, and the limits of which 95 % must stay below.
FAILURES_OBJECTIVE = 0.003
SLOW_OBJECTIVE = 0.05
SLOW_US = {"chat": 1_500_000, "enhanced": 1_600_000}
FALLBACKS = sorted(name for name, code in CODES.items() if code.cls is Class.FALLBACK)


def arms_read(rollout: GuardedRollout, now: datetime | None = None) -> Measured:
    """Two queries, over WINDOW_SECONDS at most and nothing from before the rollout began.

    Turns that their asker ended count in neither arm, nor do turns that were recorded without arms.
    """
    now = now or timezone.now()
    since = max(now - timedelta(seconds=WINDOW_SECONDS), rollout.started_at)
    fresh = Q(created_at__gt=rollout.looked_at or since)
    turns = (
        Turn.objects.filter(created_at__gt=since, created_at__lte=now)
        .exclude(outcome="aborted")
        .annotate(codes=Cast("repair_codes", TextField()))
    )
    seen = turns.aggregate(**_counts(rollout.key, fresh, {"turns": Q(), "errors": _wrong(), "slow": _slow()}))
    failures = TurnFailure.objects.filter(at__gt=since, at__lte=now)
    fresh = Q(at__gt=rollout.looked_at or since)
    failed = failures.aggregate(**_counts(rollout.key, fresh, {"turns": Q()}))

    def arm(name: str) -> Arm:
        # A turn that failed is a turn, and an error.
        return Arm(seen[f"{name}_turns"], seen[f"{name}_errors"]) + Arm(
            failed[f"{name}_turns"], failed[f"{name}_turns"]
        )

    window = Arms(arm("canary"), arm("control"))
    broken = _failing(window, failed["canary_turns"]) or _slower(seen["canary_slow"], seen["control_slow"], seen)
    return Measured(window, Arms(arm("canary_fresh"), arm("control_fresh")), broken)


def _counts(key: str, fresh: Q, counted: dict[str, Q]) -> dict[str, Count]:
    """canary_turns, canary_fresh_turns, control_turns, ... and the same for the other things counted."""
    arms = {"canary": Q(**{f"arms__{key}": True}), "control": Q(**{f"arms__{key}": False})}
    periods = {"": Q(), "fresh_": fresh}
    return {
        f"{arm}_{period}{name}": Count("pk", filter=in_arm & within & what)
        for arm, in_arm in arms.items()
        for period, within in periods.items()
        for name, what in counted.items()
    }


def _wrong() -> Q:
    """An answer that is no proper one: the provider gave none, the guard fell back, or the conversation was lost."""
    wrong = Q(outcome="degraded") | Q(context="lost")
    for code in FALLBACKS:
        wrong |= Q(codes__contains=f'"{code}"')
    return wrong


def _slow() -> Q:
    slow = Q()
    for endpoint, limit in SLOW_US.items():
        slow |= Q(endpoint=endpoint, total_us__gt=limit)
    return slow


def _failing(window: Arms, failed: int) -> str:
    """Whatever the control does: an outage is no time for a rollout."""
    turns = window.canary.turns
    if turns < ENOUGH_TURNS or wilson(failed, turns)[0] <= FAILURES_OBJECTIVE + MARGIN:
        return ""
    return f"{failed} of {turns} turns of the canary got no answer; the objective is {100 * FAILURES_OBJECTIVE:g} %"


def _slower(canary_slow: int, control_slow: int, seen: dict[str, int]) -> str:
    """Only when the control keeps the objective: a provider that is slow for all is not the canary's doing."""
    canary, control = seen["canary_turns"], seen["control_turns"]
    if min(canary, control) < ENOUGH_TURNS or wilson(canary_slow, canary)[0] <= SLOW_OBJECTIVE + MARGIN:
        return ""
    if control_slow / control > SLOW_OBJECTIVE:
        return ""
    return f"{canary_slow} of {canary} turns of the canary took too long; the objective is {100 * SLOW_OBJECTIVE:g} %"
