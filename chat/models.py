import uuid

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class Session(models.Model):
    """A conversation. It belongs to a pseudonym, not to an account, so that erasure can cut the link."""

    id = models.UUIDField(primary_key=True)
    subject_ref = models.CharField(max_length=32, db_index=True)
    turn_count = models.PositiveIntegerField(default=0)
    event_count = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    last_turn_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)
    # Since when the hot stores may still hold texts of a deleted session.
    hot_erase_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "chat_session"
        indexes = [
            models.Index(fields=["subject_ref", "-last_turn_at"], name="chat_session_recent"),
            models.Index(
                fields=["hot_erase_since"],
                condition=models.Q(hot_erase_since__isnull=False),
                name="chat_session_hot_erase",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Turn(models.Model):
    """The facts of one recorded turn; never its text."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    session = models.ForeignKey(Session, on_delete=models.PROTECT, related_name="turns")
    seq = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_index=True)
    endpoint = models.CharField(max_length=20)
    pipeline = models.CharField(max_length=10)
    track = models.CharField(max_length=10)
    outcome = models.CharField(max_length=20)
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    degraded = models.BooleanField()
    repaired = models.BooleanField()
    repair_codes = models.JSONField(default=list)
    references = models.JSONField(default=list)
    context = models.CharField(max_length=10)
    history_turns = models.PositiveIntegerField()
    question_chars = models.PositiveIntegerField()
    answer_chars = models.PositiveIntegerField()
    prompt_tokens = models.PositiveIntegerField()
    completion_tokens = models.PositiveIntegerField()
    total_us = models.PositiveBigIntegerField()
    provider_us = models.PositiveBigIntegerField()
    # Of a streamed turn: when the first text of the reply came.
    first_token_us = models.PositiveBigIntegerField(null=True)
    event_uid = models.UUIDField()
    # The value of each cohort flag for the one who asked; null from a release that does not write it yet.
    arms = models.JSONField(null=True)

    class Meta:
        db_table = "chat_turn"
        constraints = [models.UniqueConstraint(fields=["session", "seq"], name="chat_turn_session_seq")]
        # What reviewers look for; on PostgreSQL the JSON columns have GIN indexes as well (migration 0006).
        indexes = [
            models.Index(fields=["outcome", "created_at"], name="chat_turn_outcome_at"),
            models.Index(fields=["endpoint", "created_at"], name="chat_turn_endpoint_at"),
            models.Index(fields=["model", "created_at"], name="chat_turn_model_at"),
            models.Index(fields=["created_at"], condition=models.Q(degraded=True), name="chat_turn_degraded_at"),
            models.Index(fields=["created_at"], condition=models.Q(repaired=True), name="chat_turn_repaired_at"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class TurnFailure(models.Model):
    """A turn that got no answer through a fault of ours: without it a rollout that crashes would look idle."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    endpoint = models.CharField(max_length=20)
    pipeline = models.CharField(max_length=10)
    arms = models.JSONField()
    # The code of the problem, or the class of an exception that nobody expected.
    code = models.CharField(max_length=60)

    class Meta:
        db_table = "chat_turn_failure"

    def __str__(self) -> str:
        return f"{self.code} {self.at:%Y-%m-%d %H:%M:%S}"


class IdempotencyKey(models.Model):
    """A caller's promise that two requests with one key are the same request. The answer itself is not held here."""

    subject_ref = models.CharField(max_length=32)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    turn_id = models.UUIDField(null=True)
    claimed_at = models.DateTimeField(db_index=True)
    # The last sign of life of the worker that holds the claim, by the database's clock.
    seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "chat_idempotency_key"
        constraints = [models.UniqueConstraint(fields=["subject_ref", "key"], name="chat_idempotency_subject_key")]

    def __str__(self) -> str:
        return f"{self.subject_ref} {self.turn_id}"


class Stream(models.Model):
    """A streamed turn while it runs, and minutes longer: who watches it, who asked for its end, whether it lives."""

    class Status(models.TextChoices):
        RUNNING = "running"
        COMPLETED = "completed"
        ABORTED = "aborted"

    turn_id = models.UUIDField(primary_key=True)
    session_id = models.UUIDField(db_index=True)
    subject_ref = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=20)
    pipeline = models.CharField(max_length=10)
    # Defaults in the database: an earlier release goes on writing while a new one is rolled out.
    provider = models.CharField(max_length=40, default="", db_default="")
    model = models.CharField(max_length=200, default="", db_default="")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    # The question and the salt of its commitment, encrypted: what a sweeper needs to record the turn.
    sealed = models.BinaryField()
    # Number of the last event, once there is one.
    last_n = models.PositiveIntegerField(null=True)
    # As they were when the turn began; a sweeper knows neither the listed users nor the flags of that moment.
    arms = models.JSONField(null=True)
    # The database's clock: those of two machines may differ by more than a worker's silence is long.
    started_at = models.DateTimeField(db_default=Now(), db_index=True)
    heartbeat_at = models.DateTimeField(db_default=Now())
    watched_at = models.DateTimeField(db_default=Now())
    stop_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "chat_stream"
        indexes = [
            models.Index(fields=["heartbeat_at"], condition=models.Q(status="running"), name="chat_stream_running")
        ]

    def __str__(self) -> str:
        return f"{self.turn_id} {self.status}"


class StreamEvent(models.Model):
    """One encrypted event of a stream, where there is no Redis to hold it."""

    turn_id = models.UUIDField()
    n = models.PositiveIntegerField()
    sealed = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        db_table = "chat_stream_event"
        constraints = [models.UniqueConstraint(fields=["turn_id", "n"], name="chat_stream_event_turn_n")]

    def __str__(self) -> str:
        return f"{self.turn_id} {self.n}"
