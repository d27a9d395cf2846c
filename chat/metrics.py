"""The product's metrics (DESIGN section 9). No label takes values that a caller can choose."""

from prometheus_client import Counter, Gauge, Histogram

# Fine steps around the limits that the SLOs name (1.5 s and 1.6 s): a quantile is only as exact as its bucket.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 1.25, 1.4, 1.45, 1.475, 1.5, 1.525, 1.55, 1.575,
           1.6, 1.65, 1.75, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)  # fmt: skip
FAST_SECONDS = (
    0.0005,
    0.001,
    0.0015,
    0.002,
    0.0025,
    0.003,
    0.004,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.025,
    0.04,
    0.1,
    0.25,
    1.0,
)

TURNS = Counter("onesource_turns_total", "Turns by how they ended", ["endpoint", "pipeline", "outcome", "track"])
TURN_SECONDS = Histogram("onesource_turn_seconds", "Whole turn", ["endpoint", "track"], buckets=SECONDS)
OVERHEAD_SECONDS = Histogram("onesource_overhead_seconds", "Turn without its provider", buckets=FAST_SECONDS)
FIRST_TOKEN_SECONDS = Histogram(
    "onesource_first_token_seconds", "Streamed turn until the first text of the reply", buckets=SECONDS
)
GUARD_ANSWERS = Counter("onesource_guard_answers_total", "Answers by what the guard made of them", ["outcome"])
GUARD_REPAIRS = Counter("onesource_guard_repairs_total", "Repair codes given", ["code"])
STORE_OPERATIONS = Counter(
    "onesource_store_operations_total", "Conversation store operations", ["store", "op", "outcome"]
)
STORE_SECONDS = Histogram(
    "onesource_store_seconds", "Conversation store operations", ["store", "op"], buckets=FAST_SECONDS
)
STORE_DIVERGENCE = Counter(
    "onesource_store_divergence_total",
    "Stores that were found to differ: by a write that not all took, or by a sampled read",
    ["store", "found_by"],
)
CONTEXT_LOADS = Counter("onesource_context_loads_total", "Histories loaded for turn 2 and later", ["outcome"])
PROVIDER_REQUESTS = Counter("onesource_provider_requests_total", "Provider calls", ["provider", "outcome"])
ENFORCEMENT_LOST = Counter(
    "onesource_provider_enforcement_lost_total",
    "Replies out of form from a provider that was asked to enforce it and did not object",
    ["provider"],
)
BREAKER_STATE = Gauge(
    "onesource_breaker_state", "0 closed, 1 half-open, 2 open", ["dependency"], multiprocess_mode="livemax"
)
TURNS_SHED = Counter("onesource_turns_shed_total", "Turns turned away because the process had no place free")
RATE_LIMITED = Counter("onesource_ratelimited_total", "Requests turned away by the rate limit", ["scope"])
