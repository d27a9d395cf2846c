"""Every flag and setting the code may ask for. Asking for another raises; docs/configuration.md lists them."""

import os
from dataclasses import dataclass
from typing import Literal

from onesource import env

Type = Literal["cohort", "switch", "choice", "number"]
Kind = Literal["release", "experiment", "operational", "kill-switch", "permission"]
Value = bool | int | float | str


class UnknownFlag(KeyError):
    pass


class BadValue(ValueError):
    """The value is not one the flag can take; the text says which are."""


@dataclass(frozen=True, slots=True)
class Registered:
    key: str
    type: Type
    default: Value
    kind: Kind
    description: str
    owner: str = "product"
    lifetime_days: int | None = None
    choices: tuple[str, ...] = ()
    minimum: float = 0
    maximum: float = 0
    whole: bool = True
    # Read from the environment alone when a process starts, before there is a database to ask.
    boot: bool = False

    @property
    def is_boolean(self) -> bool:
        return self.type in ("cohort", "switch")

    def parse(self, text: str) -> Value:
        """The typed value of a text as an operator writes it; raises BadValue."""
        try:
            if self.is_boolean:
                return env.parse_boolean(self.key, text)
            if self.type == "choice":
                return self.check(text.strip())
            return self.check(int(text) if self.whole else float(text))
        except (env.EnvError, ValueError) as error:
            raise error if isinstance(error, BadValue) else BadValue(self.expectation()) from None

    def check(self, value: object) -> Value:
        """The value itself when the flag can take it; raises BadValue."""
        if self.is_boolean and isinstance(value, bool):
            return value
        if self.type == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if self.type == "number" and isinstance(value, (int, float)) and self._in_bounds(value):
            return int(value) if self.whole else float(value)
        raise BadValue(self.expectation())

    def _in_bounds(self, value: float) -> bool:
        # NaN compares false with both bounds; True is an int to Python and no number to an operator.
        within = not isinstance(value, bool) and self.minimum <= value <= self.maximum
        return within and (not self.whole or value == int(value))

    def expectation(self) -> str:
        if self.is_boolean:
            return "expected on or off"
        if self.type == "choice":
            return f"expected one of {', '.join(self.choices)}"
        return f"expected a {'whole ' if self.whole else ''}number from {self.minimum} to {self.maximum}"


def _store_default() -> str:
    return "redis" if env.secret("REDIS_URL") else "database"


_ALL = (
    Registered(
        "USE_UNIFIED_PIPELINE", "cohort", True, "kill-switch",
        "Off: the legacy pipeline answers (one plain prompt, no retrieval, no suggestions).", owner="operators",
    ),
    Registered(
        "CONV_STORE_PRIMARY", "choice", _store_default(), "operational",
        "The store that conversations are read from.", owner="operators", choices=("redis", "mongo", "database"),
    ),
    Registered(
        "CONV_DUAL_WRITE", "switch", False, "operational", "Write every configured hot store.", owner="operators",
    ),
    Registered(
        "FEATURE_DYNAMIC_PROMPTS", "cohort", True, "release", "Rotating example questions.", lifetime_days=180,
    ),
    Registered(
        "FEATURE_SUGGESTED_ACTIONS", "cohort", True, "release", "Suggested follow-up actions below an answer.",
        lifetime_days=180,
    ),
    Registered(
        "CONV_TTL_SECONDS", "number", 2_592_000, "operational", "How long questions and answers are kept, in seconds.",
        minimum=60, maximum=31_536_000,
    ),
    Registered(
        "CONV_MAX_TURNS", "number", 16, "operational", "How many turns of history a question carries.",
        minimum=0, maximum=200,
    ),
    Registered(
        "SCHEMA_REPAIR_RATE_ALERT", "number", 0.005, "operational", "Share of repaired answers that raises the alert.",
        minimum=0, maximum=1, whole=False,
    ),
    Registered(
        "REDIS_SOCKET_TIMEOUT_MS", "number", 200, "operational", "Longest wait for one Redis answer, in ms.",
        minimum=10, maximum=10_000, boot=True,
    ),
    Registered(
        "REDIS_CONNECT_TIMEOUT_MS", "number", 100, "operational", "Longest wait for a Redis connection, in ms.",
        minimum=10, maximum=10_000, boot=True,
    ),
    Registered(
        "LLM_TIMEOUT_MS", "number", 20_000, "operational", "The whole budget of a provider call, in ms.",
        minimum=100, maximum=600_000,
    ),
    Registered(
        "RATE_LIMIT_PER_USER", "number", 30, "operational", "Questions a minute and caller, over a moving window.",
        minimum=1, maximum=1_000_000,
    ),
    Registered(
        "RENDER_P95_BUDGET_MS", "number", 150, "operational", "Budget for drawing an answer in the browser, p95 in ms.",
        minimum=1, maximum=10_000,
    ),
)  # fmt: skip
REGISTRY: dict[str, Registered] = {entry.key: entry for entry in _ALL}


def registered(key: str) -> Registered:
    try:
        return REGISTRY[key]
    except KeyError:
        raise UnknownFlag(f"{key} is not a registered flag or setting") from None


def pins_read() -> dict[str, Value]:
    """The flags that the environment pins. A pin that does not parse raises EnvError and so stops the boot."""
    pins: dict[str, Value] = {}
    for key, entry in REGISTRY.items():
        text = os.environ.get(key, "").strip()
        if text:
            try:
                pins[key] = entry.parse(text)
            except BadValue as error:
                raise env.EnvError(key, f"{error}; got {text!r}") from None
    return pins
