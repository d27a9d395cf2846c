import hashlib
import hmac
import json
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audit import actions, content
from audit.canonical import canonical_json
from audit.keys import data_key_keep, data_key_of, key_context
from audit.merkle import leaf_hash
from audit.models import ContentKey, Event, Stream, SubjectAlias, TurnContent
from audit.triggers import triggers_install

SALT_BYTES = 32


class SubjectGone(Exception):
    """The person behind the pseudonym has been erased: nothing of theirs is recorded under it any more."""


def subject_ref_of(user: AbstractBaseUser | AnonymousUser) -> str:
    """The user's pseudonym, made at first need."""
    user_id: int = user.pk or 0
    alias = SubjectAlias.objects.filter(user_id=user_id).only("subject_ref").first()
    if alias is None:
        alias, _ = SubjectAlias.objects.get_or_create(user_id=user_id)
    return alias.subject_ref


def event_record(
    *,
    kind: str,
    stream: str,
    actor_ref: str,
    facts: dict[str, Any],
    stream_seq: int | None = None,
    at: datetime | None = None,
) -> Event:
    """Appends one event in the caller's transaction (or one of its own).

    `stream_seq` is given by a stream that keeps its own counter under a row lock; otherwise the next number of `stream`
    is taken here. Raises actions.UnknownKind, actions.IncompleteFacts or canonical.NotCanonical.
    """
    actions.check(kind, facts)
    at = at or timezone.now()
    uid = uuid.uuid4()
    # No savepoint: an event that fails must take the change it stands for with it.
    with transaction.atomic(savepoint=False):
        seq = stream_seq if stream_seq is not None else _next_seq(stream)
        body = canonical_json(
            {
                "v": 1,
                "uid": str(uid),
                "at": at.isoformat(timespec="microseconds"),
                "kind": kind,
                "stream": stream,
                "seq": seq,
                "actor": actor_ref,
                "facts": facts,
            }
        )
        return Event.objects.create(
            uid=uid,
            at=at,
            kind=kind,
            stream=stream,
            stream_seq=seq,
            actor_ref=actor_ref,
            body=body,
            leaf=leaf_hash(body),
        )


def _next_seq(stream: str) -> int:
    if not Stream.objects.filter(name=stream).update(last_seq=F("last_seq") + 1):
        # Two first events of a stream at once: one insert wins, then both queue for the row.
        Stream.objects.bulk_create([Stream(name=stream)], ignore_conflicts=True)
        Stream.objects.filter(name=stream).update(last_seq=F("last_seq") + 1)
    return Stream.objects.values_list("last_seq", flat=True).get(name=stream)


@dataclass(frozen=True, slots=True)
class Commitment:
    """What the evidence says of a text that it does not hold: its length and HMAC-SHA256(salt, text)."""

    chars: int
    hmac: str

    def facts(self) -> dict[str, Any]:
        return {"chars": self.chars, "hmac": self.hmac}


def salt_make() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def commitment_make(salt: bytes, text: str) -> Commitment:
    return Commitment(len(text), hmac.new(salt, text.encode("utf-8"), hashlib.sha256).hexdigest())


def content_store(
    *,
    turn_id: uuid.UUID,
    session_id: uuid.UUID,
    seq: int,
    subject_ref: str,
    payload: dict[str, Any],
    at: datetime,
    retention: timedelta,
) -> TurnContent:
    """Encrypts and stores a turn's texts in the caller's transaction. Raises SubjectGone."""
    key, data_key = _content_key(subject_ref, at)
    # After the commit: the row of a key that is rolled back leaves its number to another.
    transaction.on_commit(partial(data_key_keep, key.pk, data_key), robust=True)
    plaintext = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return TurnContent.objects.create(
        turn_id=turn_id,
        session_id=session_id,
        seq=seq,
        key=key,
        sealed=content.seal(plaintext, data_key, content_context(turn_id, session_id, seq)),
        created_at=at,
        expires_at=at + retention,
    )


def content_context(turn_id: uuid.UUID, session_id: uuid.UUID, seq: int) -> bytes:
    """Binds a ciphertext to its place: moved to another turn or session it no longer decrypts."""
    return f"turn:{turn_id}:{session_id}:{seq}".encode()


def _content_key(subject_ref: str, at: datetime) -> tuple[ContentKey, bytes]:
    day = at.astimezone(UTC).date()
    row = ContentKey.objects.filter(subject_ref=subject_ref, day=day).first()
    if row is None:
        row = _content_key_make(subject_ref, day)
    return row, data_key_of(row)


def _content_key_make(subject_ref: str, day: date) -> ContentKey:
    # An erasure locks the alias before it deletes the keys: it either waits for this turn or has taken place.
    alias = SubjectAlias.objects.select_for_update().filter(subject_ref=subject_ref).values_list("pk").first()
    if alias is None and Event.objects.filter(stream=f"subject:{subject_ref}", kind=actions.SUBJECT_ERASED).exists():
        raise SubjectGone(f"{subject_ref} has been erased")
    _, wrapped_by, wrapped = content.key_make(key_context(subject_ref, day))
    made = ContentKey(subject_ref=subject_ref, day=day, wrapped=wrapped, wrapped_by=wrapped_by)
    # Two first turns of a day: one makes the key.
    ContentKey.objects.bulk_create([made], ignore_conflicts=True)
    return ContentKey.objects.get(subject_ref=subject_ref, day=day)


def triggers_restore(sender: object, **kwargs: Any) -> None:
    """Receiver of post_migrate. That triggers had to be put back into a trail with events goes on record."""
    restored = triggers_install()
    if restored and Event.objects.exists():
        event_record(
            kind=actions.TRIGGERS_RESTORED, stream="protection", actor_ref="", facts={"triggers": sorted(restored)}
        )


def identifier_hash(purpose: str, value: bytes) -> str:
    """Keyed, so that repeated attempts can be told from others, and nothing can be read or guessed without the key."""
    digest = hmac.new(settings.SECRET_KEY.encode(), purpose.encode() + b":" + value, hashlib.sha256)
    return digest.hexdigest()[:32]
