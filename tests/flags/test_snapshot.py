"""The picture of all flags that a process keeps: how fresh it is, and what it says."""

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from flags import snapshot
from flags.registry import UnknownFlag, Value
from flags.selectors import epoch_read, rules_read
from flags.snapshot import CohortRule, Rules, Snapshot, SourceAway, Subject

KEY = "USE_UNIFIED_PIPELINE"
FRESH = 0.25


@dataclass
class Source:
    """A database of flags that counts how often it is read, and can be away."""

    epoch: int = 1
    rules: Rules = field(default_factory=Rules)
    away: bool = False
    reads: list[str] = field(default_factory=list)

    def read_epoch(self) -> int:
        self.reads.append("epoch")
        if self.away:
            raise SourceAway("gone")
        return self.epoch

    def read_rules(self) -> Rules:
        self.reads.append("rules")
        if self.away:
            raise SourceAway("gone")
        return self.rules

    def change(self, **values: Value) -> None:
        self.rules = Rules(values=values)
        self.epoch += 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    faked = Clock()
    monkeypatch.setattr("time.monotonic", faked)
    return faked


@pytest.fixture
def source(clock: Clock) -> Iterator[Source]:
    pins = dict(snapshot.pins())
    made = Source()
    snapshot.configure(read_epoch=made.read_epoch, read_rules=made.read_rules, pins={})
    yield made
    snapshot.configure(read_epoch=epoch_read, read_rules=rules_read, pins=pins)


def test_the_first_call_reads_the_rows(source: Source) -> None:
    source.change(CONV_MAX_TURNS=3)
    assert snapshot.current().number("CONV_MAX_TURNS") == 3
    assert source.reads == ["epoch", "rules"]


def test_within_250_ms_nothing_is_read(source: Source, clock: Clock) -> None:
    before = snapshot.current()
    source.change(CONV_MAX_TURNS=3)
    clock.now += FRESH
    assert snapshot.current() is before
    assert source.reads == ["epoch", "rules"]


def test_after_250_ms_only_the_epoch_is_read_while_nothing_changed(source: Source, clock: Clock) -> None:
    snapshot.current()
    for _ in range(3):
        clock.now += FRESH + 0.001
        snapshot.current()
    assert source.reads == ["epoch", "rules", "epoch", "epoch", "epoch"]


def test_after_250_ms_a_change_is_in_force(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.change(CONV_MAX_TURNS=3)
    clock.now += FRESH + 0.001
    assert snapshot.current().number("CONV_MAX_TURNS") == 3


def test_the_epoch_is_read_before_the_rows_so_that_no_change_between_is_lost(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.change(CONV_MAX_TURNS=3)
    clock.now += FRESH + 0.001
    snapshot.current()
    assert source.reads[-2:] == ["epoch", "rules"]


def test_an_epoch_that_went_back_is_read_again(source: Source, clock: Clock) -> None:
    source.epoch = 9
    snapshot.current()
    source.epoch, source.rules = 8, Rules(values={"CONV_MAX_TURNS": 3})
    clock.now += FRESH + 0.001
    assert snapshot.current().number("CONV_MAX_TURNS") == 3


def test_a_picture_that_a_turn_took_never_changes(source: Source, clock: Clock) -> None:
    taken = snapshot.current()
    source.change(CONV_MAX_TURNS=3)
    clock.now += 1
    assert snapshot.current() is not taken
    assert taken.number("CONV_MAX_TURNS") == 16
    with pytest.raises(dataclasses.FrozenInstanceError):
        taken.epoch = 5  # type: ignore[misc]


# The database away


def test_the_last_picture_stays_while_the_database_is_away(source: Source, clock: Clock) -> None:
    source.change(CONV_MAX_TURNS=3)
    snapshot.current()
    source.away = True
    clock.now += 3600
    assert snapshot.current().number("CONV_MAX_TURNS") == 3


def test_its_age_grows_while_the_database_is_away(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.away = True
    for seconds in (10, 20, 30):
        clock.now = 1000.0 + seconds
        assert snapshot.current().age() == pytest.approx(seconds)


def test_confirmed_by_the_database_the_same_picture_is_young_again(source: Source, clock: Clock) -> None:
    snapshot.current()
    clock.now += 10
    assert snapshot.current().age() == 0


def test_without_ever_a_picture_the_defaults_hold_and_the_age_is_infinite(source: Source) -> None:
    source.away = True
    picture = snapshot.current()
    assert picture.boolean(KEY) is True
    assert picture.age() == float("inf")


def test_a_database_that_is_away_is_not_asked_at_every_call(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.away = True
    source.reads.clear()
    for _ in range(9):
        clock.now += 0.1
        snapshot.current()
    assert source.reads == ["epoch"]


def test_a_database_that_is_back_is_believed_within_a_second_or_so(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.away = True
    clock.now += 1
    snapshot.current()
    source.away = False
    source.change(CONV_MAX_TURNS=3)
    clock.now += 1
    assert snapshot.current().number("CONV_MAX_TURNS") == 3


def test_rows_that_cannot_be_read_leave_the_picture_whole(source: Source, clock: Clock) -> None:
    snapshot.current()
    source.change(CONV_MAX_TURNS=3)

    def fail() -> Rules:
        raise SourceAway("between epoch and rows")

    snapshot._read_rules = fail
    clock.now += 1
    assert snapshot.current().number("CONV_MAX_TURNS") == 16
    assert snapshot.current().epoch == 1


def test_last_never_reads(source: Source, clock: Clock) -> None:
    before = snapshot.current()
    source.change(CONV_MAX_TURNS=3)
    clock.now += 3600
    assert snapshot.last() is before
    assert source.reads == ["epoch", "rules"]


# Threads


def test_one_thread_refreshes_and_the_others_go_on_with_what_they_have(source: Source, clock: Clock) -> None:
    before = snapshot.current()
    entered, release = threading.Event(), threading.Event()

    def slow_epoch() -> int:
        entered.set()
        assert release.wait(10)
        return source.read_epoch()

    source.change(CONV_MAX_TURNS=3)
    snapshot.configure(read_epoch=slow_epoch, read_rules=source.read_rules, pins={})
    snapshot._current = before
    clock.now += 1
    refreshed: list[Snapshot] = []
    thread = threading.Thread(target=lambda: refreshed.append(snapshot.current()))
    thread.start()
    assert entered.wait(10)
    assert snapshot.current() is before
    release.set()
    thread.join(10)
    assert refreshed[0].number("CONV_MAX_TURNS") == 3
    assert snapshot.current() is refreshed[0]


def test_the_first_readers_wait_for_the_picture_and_it_is_read_once(source: Source) -> None:
    source.change(CONV_MAX_TURNS=3)
    together = threading.Barrier(8)
    seen: list[float] = []

    def read() -> None:
        together.wait(10)
        seen.append(snapshot.current().number("CONV_MAX_TURNS"))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [3] * 8
    assert source.reads == ["epoch", "rules"]


# What it says


def picture(pins: dict[str, Value] | None = None, **rules: CohortRule | Value) -> Snapshot:
    cohorts = {key: rule for key, rule in rules.items() if isinstance(rule, CohortRule)}
    values = {key: value for key, value in rules.items() if not isinstance(value, CohortRule)}
    return Snapshot(1, 0.0, pins or {}, Rules(cohorts, values))


def test_without_a_row_the_registered_default_holds() -> None:
    assert picture().evaluate(None)["CONV_MAX_TURNS"] == 16
    assert picture().boolean(KEY) is True
    assert picture().choice("CONV_STORE_PRIMARY") == "database"


def test_a_row_beats_the_default() -> None:
    told = picture(CONV_MAX_TURNS=3, CONV_DUAL_WRITE=True, CONV_STORE_PRIMARY="redis")
    assert told.number("CONV_MAX_TURNS") == 3
    assert told.boolean("CONV_DUAL_WRITE") is True
    assert told.choice("CONV_STORE_PRIMARY") == "redis"


def test_a_pin_beats_the_row() -> None:
    pins: dict[str, Value] = {
        "CONV_MAX_TURNS": 5,
        "CONV_STORE_PRIMARY": "database",
        KEY: False,
        "CONV_DUAL_WRITE": False,
    }
    told = picture(pins, CONV_MAX_TURNS=3, CONV_STORE_PRIMARY="redis", CONV_DUAL_WRITE=True, **{KEY: CohortRule(True)})
    assert told.number("CONV_MAX_TURNS") == 5
    assert told.choice("CONV_STORE_PRIMARY") == "database"
    assert told.boolean(KEY, Subject("anyone")) is False
    assert told.boolean("CONV_DUAL_WRITE") is False
    assert pins.items() <= told.evaluate(Subject("anyone")).items()


def test_zero_is_a_value_and_not_the_lack_of_one() -> None:
    assert picture(CONV_MAX_TURNS=0).number("CONV_MAX_TURNS") == 0
    assert picture({"CONV_MAX_TURNS": 0}).number("CONV_MAX_TURNS") == 0


@pytest.mark.parametrize("ask", ["boolean", "number", "choice"])
def test_an_unknown_flag_raises(ask: str) -> None:
    with pytest.raises(UnknownFlag):
        getattr(picture(), ask)("NO_SUCH_FLAG")


# Cohorts

SUBJECTS = [Subject(f"{number:032x}", user_id=number) for number in range(100_000)]


def admitted(rule: CohortRule) -> set[str]:
    return {subject.ref for subject in SUBJECTS if rule.admits(KEY, subject)}


@pytest.mark.parametrize("share", [0, 1, 100, 1000, 2500, 5000, 9999, 10_000])
def test_a_cohort_has_the_share_it_was_given(share: int) -> None:
    measured = len(admitted(CohortRule(None, rollout_bp=share, salt="s"))) / len(SUBJECTS)
    # Three standard deviations of 100,000 draws are at most 0.47 points.
    assert measured == pytest.approx(share / 10_000, abs=0.005 if 0 < share < 10_000 else 0)


def test_a_cohort_is_sticky() -> None:
    rule = CohortRule(None, rollout_bp=3000, salt="s")
    assert admitted(rule) == admitted(CohortRule(None, rollout_bp=3000, salt="s"))


def test_a_bigger_share_removes_nobody_and_a_smaller_one_adds_nobody() -> None:
    shares = [0, 50, 100, 1000, 1001, 5000, 9000, 10_000]
    cohorts = [admitted(CohortRule(None, rollout_bp=share, salt="s")) for share in shares]
    assert all(small <= big for small, big in itertools.pairwise(cohorts))
    assert len(cohorts[0]) == 0
    assert len(cohorts[-1]) == len(SUBJECTS)


def test_another_salt_or_flag_draws_another_cohort() -> None:
    one = admitted(CohortRule(None, rollout_bp=5000, salt="one"))
    other = admitted(CohortRule(None, rollout_bp=5000, salt="other"))
    flag = {s.ref for s in SUBJECTS if CohortRule(None, rollout_bp=5000, salt="one").admits("ANOTHER", s)}
    for drawn in (other, flag):
        assert len(one & drawn) / len(SUBJECTS) == pytest.approx(0.25, abs=0.01)


def test_the_bucket_is_the_one_that_the_design_gives() -> None:
    # sha256(salt:key:subject) mod 10000, worked out with sha256sum and bc, so that others can tell the cohort as well.
    assert snapshot.bucket("salt", "KEY", "subject") == 9864


LISTED = CohortRule(None, users=frozenset({7}), groups=frozenset({3}))


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (Subject("a", 7), True),
        (Subject("a", 8, frozenset({3, 4})), True),
        (Subject("a", 8, frozenset({4})), False),
        (Subject("a", None), False),
        (None, False),
    ],
)
def test_the_listed_are_in_whatever_the_share(subject: Subject | None, told: bool) -> None:
    assert LISTED.admits(KEY, subject) is told


def test_a_kill_switch_beats_the_list_and_the_share() -> None:
    killed = dataclasses.replace(LISTED, everyone=False, rollout_bp=10_000)
    assert not killed.admits(KEY, Subject("a", 7))
    assert not killed.admits(KEY, Subject("a", 8, frozenset({3})))


def test_a_full_release_is_for_those_without_an_account_too() -> None:
    assert CohortRule(True).admits(KEY, None)


def test_a_share_is_not_for_those_without_an_account() -> None:
    assert not CohortRule(None, rollout_bp=9_999).admits(KEY, None)
