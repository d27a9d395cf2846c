import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


def new_ref() -> str:
    """A random pseudonym, without any relation to the account it stands for."""
    return uuid.uuid4().hex


class SubjectAlias(models.Model):
    """The only link from an account to its pseudonym in the trail; erasure deletes it."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subject_alias")
    subject_ref = models.CharField(max_length=32, unique=True, default=new_ref, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        db_table = "subject_alias"
        verbose_name_plural = "subject aliases"

    def __str__(self) -> str:
        return self.subject_ref


class Stream(models.Model):
    """The last sequence number of a stream that has no counter of its own (a session has one)."""

    name = models.CharField(max_length=80, primary_key=True)
    last_seq = models.BigIntegerField(default=0)

    class Meta:
        db_table = "audit_stream"

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """One recorded fact. `body` is the truth (canonical JSON); the other columns are projections of it."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=40, db_index=True)
    stream = models.CharField(max_length=80)
    stream_seq = models.BigIntegerField()
    actor_ref = models.CharField(max_length=32, blank=True, db_index=True)
    body = models.BinaryField()
    leaf = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_event"
        constraints = [models.UniqueConstraint(fields=["stream", "stream_seq"], name="audit_event_stream_seq")]
        permissions = [
            ("reveal_content", "Can reveal the content of a turn"),
            ("export_proof", "Can export evidence"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.uid}"


class Leaf(models.Model):
    """The place of an event in the Merkle log. Given by the sealer, in one piece from 0, never again changed."""

    index = models.BigIntegerField(primary_key=True)
    # No constraint in the database: a check for each of a million rows would cost more than the sealing.
    event = models.OneToOneField(Event, on_delete=models.DO_NOTHING, db_constraint=False, related_name="log_leaf")
    hash = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_leaf"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.index)


class Tile(models.Model):
    """256 finished hashes of one level of the log (C2SP tlog-tiles); `root` is the hash above them."""

    level = models.PositiveSmallIntegerField()
    index = models.BigIntegerField()
    hashes = models.BinaryField()
    root = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_tile"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["level", "index"], name="audit_tile_level_index")]

    def __str__(self) -> str:
        return f"{self.level}/{self.index}"


class Checkpoint(models.Model):
    """A signed statement of the log's size and root (C2SP tlog-checkpoint); `note` is the whole signed text."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField(max_length=32)
    note = models.TextField()
    at = models.DateTimeField(db_index=True)
    # The highest id of an event in the log by then. Some lower ones may have been committed later.
    event_ceiling = models.BigIntegerField()

    class Meta:
        db_table = "audit_checkpoint"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.size} at {self.at:%Y-%m-%d %H:%M:%S}"


class SigningKey(models.Model):
    """A verification key (C2SP vkey) under which checkpoints were signed. Names it; trust comes from elsewhere."""

    vkey = models.CharField(max_length=300, primary_key=True)
    first_used_at = models.DateTimeField()

    class Meta:
        db_table = "audit_signing_key"
        default_permissions = ()

    def __str__(self) -> str:
        return self.vkey


class Publication(models.Model):
    """The last checkpoint that was handed to a place outside the database."""

    target = models.CharField(max_length=20, primary_key=True)
    size = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        db_table = "audit_publication"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.target} {self.size}"


class ContentKey(models.Model):
    """The wrapped data key of one subject's one day (UTC)."""

    subject_ref = models.CharField(max_length=32)
    day = models.DateField()
    wrapped = models.BinaryField()
    wrapped_by = models.CharField(max_length=40)

    class Meta:
        db_table = "content_key"
        constraints = [models.UniqueConstraint(fields=["subject_ref", "day"], name="content_key_subject_day")]

    def __str__(self) -> str:
        return f"{self.subject_ref} {self.day}"


class Content(models.Model):
    """Question and answer of one turn, encrypted under the data key of their subject's day."""

    turn_id = models.UUIDField(primary_key=True)
    session_id = models.UUIDField()
    seq = models.PositiveIntegerField()
    key: "models.ForeignKey[ContentKey, ContentKey]"
    sealed = models.BinaryField()
    created_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.turn_id)


class TurnContent(Content):
    """Gone after the retention or by erasure, while the evidence stays.

    On PostgreSQL a table in partitions, one a UTC day of `expires_at` (audit.partitions). A unique key would have to
    contain that column, so that a session has one turn of a number is left to chat_turn, written with it.
    """

    key = models.ForeignKey(ContentKey, on_delete=models.CASCADE)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "turn_content"
        indexes = [models.Index(fields=["session_id", "seq"], name="turn_content_session_seq_idx")]


class HeldContent(Content):
    """What a legal hold keeps of content that has expired or was deleted: for reviewers, not for its owner."""

    # Not even with its key may it go while it is held.
    key = models.ForeignKey(ContentKey, on_delete=models.PROTECT)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "held_content"
        default_permissions = ()
        indexes = [models.Index(fields=["session_id", "seq"], name="held_content_session_seq_idx")]


class LegalHold(models.Model):
    """Until it is released, no content of the session is deleted by anyone."""

    session_id = models.UUIDField()
    reason = models.TextField()
    placed_by = models.CharField(max_length=32, blank=True)
    placed_at = models.DateTimeField()
    released_by = models.CharField(max_length=32, blank=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "legal_hold"
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["session_id"], condition=models.Q(released_at__isnull=True), name="legal_hold_open_session"
            )
        ]

    def __str__(self) -> str:
        return f"{self.session_id} {'released' if self.released_at else 'held'}"
