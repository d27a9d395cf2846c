from prometheus_client import Counter, Gauge, Histogram

SEALED = Counter("onesource_audit_sealed_events_total", "Events that were given their place in the log")
SEAL_SECONDS = Histogram("onesource_audit_seal_seconds", "One run of the sealer that found something to seal")
PUBLISH_FAILURES = Counter(
    "onesource_audit_publish_failures_total", "Checkpoints that could not be handed to a place outside", ["target"]
)
# Written by whichever process looked last.
FORKED = Gauge(
    "onesource_audit_log_forked",
    "1 when a published checkpoint does not fit the log: nothing is sealed until somebody looks",
    multiprocess_mode="mostrecent",
)
TRIGGERS_WRONG = Gauge(
    "onesource_audit_triggers_wrong", "Append-only triggers that are missing or changed", multiprocess_mode="mostrecent"
)
