"""The decision of a guarded rollout: from the arms' turns and errors to hold, advance, complete or trip. Pure.

docs/decisions/0010 says what counts as an error and why the numbers are these.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

# Shares of the subjects in hundredths of a percent.
STAGES = (100, 1_000, 5_000, 10_000)
LAST = STAGES[-1]
HOLD_SECONDS = 600
LOOK_SECONDS = 10
WINDOW_SECONDS = 60
# After a pause of the leader a look stands for no more than this: nobody looked in between.
LONGEST_LOOK_SECONDS = 3 * LOOK_SECONDS
ENOUGH_TURNS = 200
Z = 2.58
MARGIN = 0.005

Action = Literal["hold", "advance", "complete", "trip"]


def wilson(errors: int, turns: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share, both bounds in 0..1; the whole of it when there are no turns."""
    if turns == 0:
        return 0.0, 1.0
    share, weight = errors / turns, z * z / turns
    centre = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / turns + weight / (4 * turns))
    return max((centre - spread) / (1 + weight), 0.0), min((centre + spread) / (1 + weight), 1.0)


@dataclass(frozen=True, slots=True)
class Arm:
    turns: int = 0
    errors: int = 0

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(self.turns + other.turns, self.errors + other.errors)

    @property
    def bounds(self) -> tuple[float, float]:
        return wilson(self.errors, self.turns)

    def __str__(self) -> str:
        low, high = self.bounds
        share = 100 * self.errors / self.turns if self.turns else 0.0
        return f"{self.errors} of {self.turns} ({share:.2f} %, {100 * low:.2f} to {100 * high:.2f})"


@dataclass(frozen=True, slots=True)
class Arms:
    """The canary has the flag on, the control has it off."""

    canary: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)

    def __add__(self, other: "Arms") -> "Arms":
        return Arms(self.canary + other.canary, self.control + other.control)

    @property
    def canary_is_worse(self) -> bool:
        enough = self.canary.turns >= ENOUGH_TURNS
        return enough and self.canary.bounds[0] > self.control.bounds[1] + MARGIN


@dataclass(frozen=True, slots=True)
class Measured:
    """What one look sees: the last WINDOW_SECONDS, what came since the look before, and an SLO that is broken."""

    window: Arms
    fresh: Arms
    slo_breach: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rollout stands: its share, how long it has been held there with data, and what the stage has seen."""

    stage_bp: int
    hold_seconds: int = HOLD_SECONDS
    held_seconds: float = 0.0
    totals: Arms = field(default_factory=Arms)
    # The look before found the canary worse.
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action
    reason: str
    progress: Progress


def first_stage(share_bp: int) -> int:
    """The stage to begin with: never below the share that the flag has already."""
    return next(stage for stage in STAGES if stage >= share_bp)


def next_stage(stage_bp: int) -> int:
    return next(stage for stage in STAGES if stage > stage_bp)


def decide(progress: Progress, measured: Measured, *, elapsed: float) -> Verdict:
    """The verdict of one look, `elapsed` seconds after the one before.

    Trips when an SLO is broken, when the canary is worse twice running, or when the stage as a whole shows it worse at
    its end. Advances only after `hold_seconds` during which there was traffic, and ENOUGH_TURNS turns of the canary.
    """
    window, totals = measured.window, progress.totals + measured.fresh
    stage, held = progress.stage_bp, progress.held_seconds

    def verdict(action: Action, reason: str, *, held: float = held, suspect: bool = False) -> Verdict:
        return Verdict(action, reason, Progress(stage, progress.hold_seconds, held, totals, suspect))

    if measured.slo_breach:
        return verdict("trip", measured.slo_breach)
    if window.canary_is_worse:
        told = f"errors of the canary {window.canary}, of the control {window.control}"
        if progress.suspect:
            return verdict("trip", f"twice running: {told}", suspect=True)
        return verdict("hold", f"once: {told}", suspect=True)
    # At the last stage everybody is in the canary.
    if not window.canary.turns or not (window.control.turns or stage == LAST):
        return verdict("hold", "no traffic to compare")
    held += min(elapsed, LONGEST_LOOK_SECONDS)
    if held < progress.hold_seconds:
        return verdict("hold", f"{held:.0f} of {progress.hold_seconds} s", held=held)
    if totals.canary.turns < ENOUGH_TURNS:
        return verdict("hold", f"{totals.canary.turns} of {ENOUGH_TURNS} turns of the canary", held=held)
    if totals.canary_is_worse:
        told = f"errors of the canary {totals.canary}, of the control {totals.control}"
        return verdict("trip", f"over the whole stage: {told}", held=held)
    return verdict("complete" if stage == LAST else "advance", f"held for {held:.0f} s", held=held)
