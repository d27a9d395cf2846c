"""One immutable picture of all flags, taken once a turn. Pure: the rows come through readers given to `configure`.

A snapshot older than FRESH_SECONDS is checked against the epoch, which every write path advances in its own
transaction, and the rows are read again only when it moved. With the database away the last picture stays.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from flags.registry import REGISTRY, Value, registered

FRESH_SECONDS = 0.25
# After a failed read the database is left alone for this long: each try can cost a connection timeout.
RETRY_SECONDS = 1.0
COHORTS = tuple(key for key, entry in REGISTRY.items() if entry.type == "cohort")


Decision = Literal["pin", "row", "default", "nobody", "listed", "share"]


class SourceAway(Exception):
    """The rows cannot be read now."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a cohort flag is asked for."""

    ref: str
    user_id: int | None = None
    group_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CohortRule:
    everyone: bool | None
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    rollout_bp: int = 0
    salt: str = ""

    def admits(self, key: str, subject: Subject | None) -> bool:
        """Kill switch or full release first, then the listed, then the bucket."""
        if self.everyone is not None:
            return self.everyone
        if subject is None:
            return False
        return self.lists(subject) or bucket(self.salt, key, subject.ref) < self.rollout_bp

    def lists(self, subject: Subject) -> bool:
        return subject.user_id in self.users or not self.groups.isdisjoint(subject.group_ids)


@lru_cache(maxsize=16_384)
def bucket(salt: str, key: str, subject_ref: str) -> int:
    """0..9999, the same for a subject as long as the salt stays: sticky, and monotonic in the rollout's share."""
    digest = hashlib.sha256(f"{salt}:{key}:{subject_ref}".encode()).digest()
    return int.from_bytes(digest, "big") % 10_000


@dataclass(frozen=True, slots=True)
class Rules:
    cohorts: Mapping[str, CohortRule] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def names_groups(self) -> bool:
        return any(rule.groups for rule in self.cohorts.values())


@dataclass(frozen=True, slots=True)
class Snapshot:
    epoch: int
    read_at: float
    pins: Mapping[str, Value]
    rules: Rules

    def boolean(self, key: str, subject: Subject | None = None) -> bool:
        _used.add(key)
        return self._boolean(key, subject)

    def number(self, key: str) -> float:
        _used.add(key)
        value = self.pins.get(key, self._value(key))
        assert isinstance(value, (int, float))
        return value

    def choice(self, key: str) -> str:
        _used.add(key)
        return str(self.pins.get(key, self._value(key)))

    def _boolean(self, key: str, subject: Subject | None) -> bool:
        if key in self.pins:
            return bool(self.pins[key])
        if key in self.rules.cohorts:
            return self.rules.cohorts[key].admits(key, subject)
        return bool(self._value(key))

    def _value(self, key: str) -> Value:
        value = self.rules.values.get(key)
        return registered(key).default if value is None else value

    def value(self, key: str, subject: Subject | None) -> Value:
        """A flag or setting as the subject gets it; looking at it so does not count as its use."""
        if registered(key).is_boolean:
            return self._boolean(key, subject)
        return self.pins.get(key, self._value(key))

    def evaluate(self, subject: Subject | None) -> dict[str, Value]:
        """Every flag and setting as the subject gets it."""
        return {key: self.value(key, subject) for key in REGISTRY}

    def decided_by(self, key: str, subject: Subject | None) -> Decision:
        """What `value` rests on."""
        if key in self.pins:
            return "pin"
        rule = self.rules.cohorts.get(key)
        if rule is None:
            return "row" if self.rules.values.get(key) is not None else "default"
        if rule.everyone is not None:
            return "row"
        if subject is None:
            return "nobody"
        return "listed" if rule.lists(subject) else "share"

    def arms(self, subject: Subject | None) -> dict[str, bool]:
        """The value of every cohort flag for the subject: which arm of each rollout it is in. No use of them."""
        return {key: self._boolean(key, subject) for key in COHORTS}

    def age(self) -> float:
        """Seconds since the database last confirmed this picture; infinite when it never did."""
        return time.monotonic() - self.read_at


NEVER = float("-inf")
# Keys that code has asked for in this process, since `used_take`.
_used: set[str] = set()
_overrides: Mapping[str, Value] | None = None
_lock = threading.Lock()
_read_epoch: Callable[[], int] | None = None
_read_rules: Callable[[], Rules] | None = None
_pins: Mapping[str, Value] = MappingProxyType({})
_current = Snapshot(-1, NEVER, _pins, Rules())
_next_try = NEVER


def configure(*, read_epoch: Callable[[], int], read_rules: Callable[[], Rules], pins: Mapping[str, Value]) -> None:
    """Readers raise SourceAway when the database cannot be read."""
    global _read_epoch, _read_rules, _pins
    _read_epoch, _read_rules, _pins = read_epoch, read_rules, MappingProxyType(dict(pins))
    reset()


def reset() -> None:
    """Forgets the picture, so that the next call reads the rows."""
    global _current, _next_try
    _current = Snapshot(-1, NEVER, _pins, Rules())
    _next_try = NEVER


def pins() -> Mapping[str, Value]:
    return _pins


def used_take() -> set[str]:
    """The keys asked for since the last call."""
    global _used
    taken, _used = _used, set()
    return taken


@contextmanager
def overridden(values: Mapping[str, Value]) -> Iterator[None]:
    """For tests: `values` win over everything, and while they do no database is read."""
    global _overrides
    before = _overrides
    _overrides = MappingProxyType({**(before or {}), **values})
    try:
        yield
    finally:
        _overrides = before


def current() -> Snapshot:
    snapshot = _current
    if _overrides is not None:
        return replace(snapshot, pins=MappingProxyType({**snapshot.pins, **_overrides}))
    if snapshot.age() <= FRESH_SECONDS:
        return snapshot
    # One thread refreshes; the others go on with the picture they have, unless there is none yet.
    if not _lock.acquire(blocking=snapshot.epoch < 0):
        return snapshot
    try:
        return _refresh()
    finally:
        _lock.release()


def last() -> Snapshot:
    """The picture as it is, without looking for a newer one: for metrics."""
    return _current


def _refresh() -> Snapshot:
    global _current, _next_try
    snapshot = _current
    now = time.monotonic()
    if snapshot.age() <= FRESH_SECONDS or now < _next_try or _read_epoch is None or _read_rules is None:
        return snapshot
    try:
        # The epoch before the rows: rows newer than their epoch are read once more, never the other way round.
        epoch = _read_epoch()
        rules = snapshot.rules if epoch == snapshot.epoch else _read_rules()
    except SourceAway:
        _next_try = now + RETRY_SECONDS
        return snapshot
    _current = Snapshot(epoch, now, _pins, rules)
    return _current
