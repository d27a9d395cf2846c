"""Erasing a person: all texts, the keys that they are under, and the link from the account to its pseudonym."""

from collections.abc import Callable
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from audit import actions
from audit.erasing import keys_erase, subject_content_erase
from audit.files import files_clean
from audit.holds import reason_check
from audit.models import ContentKey, Event, HeldContent, SubjectAlias
from audit.services import event_record
from chat.models import IdempotencyKey, Session
from chat.selectors import sessions_of
from chat.services import session_delete
from chat.unlinking import account_unlink
from flags.snapshot import Subject
from onesource.errors import Conflict, NotFound

BATCH = 100
# Each goes again through what turns have added while the one before ran.
ROUNDS = 20
# More than that is no coincidence.
REFUSALS = 5
# Of what an erasure deletes from, those small enough to be vacuumed at once.
TABLES = (
    "content_key",
    "subject_alias",
    "held_content",
    "chat_idempotency_key",
    "chat_stream",
    "chat_stream_event",
    "auth_user",
    "knox_authtoken",
    "django_session",
    "django_admin_log",
)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What one run erased. `held`: turns that legal holds keep, with their keys, until they are released.

    `files_clean` is false when deleted bytes may still be in the database's files for some minutes.
    """

    subject_ref: str
    sessions: int
    turns: int
    keys: int
    held: int
    files_clean: bool


@dataclass(slots=True)
class _Tally:
    sessions: int = 0
    turns: int = 0


def subject_find(text: str) -> str:
    """The pseudonym of a person given by user name, or by pseudonym. Raises NotFound, and Conflict for a text that is
    one person's name and another's pseudonym."""
    named = SubjectAlias.objects.filter(user__username=text).values_list("subject_ref", flat=True).first()
    known = SubjectAlias.objects.filter(subject_ref=text).exists() or Session.objects.filter(subject_ref=text).exists()
    if named and known and named != text:
        raise Conflict("This is the name of one person and the pseudonym of another.", code="subject_ambiguous")
    if not named and not known:
        raise NotFound("There is no user or pseudonym of this name who asked anything.", code="subject_not_found")
    return named or text


def subject_erase(
    *,
    subject_ref: str,
    reason: str,
    actor_ref: str,
    source: str,
    progress: Callable[[int, int | None], None] | None = None,
) -> Erasure:
    """Erases session by session, each in a transaction with its event; the keys and the alias go last, with
    subject.erased. Killed in between, it goes on where it stopped when it is run again.

    The account stays, signed out and without its tokens: who uses it again gets a new pseudonym. Turns under way end
    unrecorded. Raises BadInput for the reason, NotFound for a pseudonym that is not known, Conflict while turns keep
    being recorded.
    """
    reason = reason_check(reason)
    tally = _Tally()
    total = sessions_of(subject_ref).count()
    refused = 0
    for _ in range(ROUNDS):
        _sessions_erase(subject_ref, actor_ref, tally, lambda: progress and progress(tally.sessions, total))
        try:
            erased = _finish(subject_ref, reason, actor_ref, source, tally)
        except IntegrityError:
            # A turn was recorded under one of the keys while they were being deleted.
            refused += 1
            if refused == REFUSALS:
                raise
            continue
        if erased is not None:
            cleaned = files_clean(*TABLES)
            return Erasure(subject_ref, tally.sessions, *erased, files_clean=cleaned)
    raise Conflict("Turns of this person keep being recorded. Please try again.", code="subject_busy")


def _sessions_erase(subject_ref: str, actor_ref: str, tally: _Tally, tell: Callable[[], object]) -> None:
    while session_ids := list(sessions_of(subject_ref).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        for session_id in session_ids:
            try:
                erased = session_delete(subject=Subject(subject_ref), session_id=session_id, actor_ref=actor_ref)
            except NotFound:
                # Its owner was faster.
                continue
            tally.sessions += 1
            tally.turns += erased.turns
            tell()


def _finish(subject_ref: str, reason: str, actor_ref: str, source: str, tally: _Tally) -> tuple[int, int, int] | None:
    """Turns, keys, held; None when there are sessions again.

    Locks in the order of a turn: the Idempotency-Key, the alias, the contents. While the alias is locked no turn can
    make a key, and a turn that has read one refers to it, so that the database refuses it or us.
    """
    with transaction.atomic():
        IdempotencyKey.objects.filter(subject_ref=subject_ref).delete()
        aliases = SubjectAlias.objects.filter(subject_ref=subject_ref)
        user_ids = list(aliases.select_for_update().values_list("user_id", flat=True))
        if sessions_of(subject_ref).exists():
            return None
        known = bool(user_ids) or ContentKey.objects.filter(subject_ref=subject_ref).exists() or bool(tally.sessions)
        turns = tally.turns + subject_content_erase(subject_ref=subject_ref).turns
        keys = keys_erase(subject_ref=subject_ref)
        held = HeldContent.objects.filter(key__subject_ref=subject_ref).count()
        if not known:
            return _again(subject_ref, held)
        for user_id in user_ids:
            account_unlink(user_id=user_id, source=source)
        aliases.delete()
        event_record(
            kind=actions.SUBJECT_ERASED,
            stream=f"subject:{subject_ref}",
            actor_ref=actor_ref,
            facts={
                "subject_ref": subject_ref,
                "sessions": tally.sessions,
                "turns": turns,
                "keys": keys,
                "held": held,
                "reason": reason,
                "source": source,
            },
        )
    return turns, keys, held


def _again(subject_ref: str, held: int) -> tuple[int, int, int]:
    """Nothing was left to erase: no second event. Raises NotFound."""
    if not Event.objects.filter(stream=f"subject:{subject_ref}").exists():
        raise NotFound("Nobody of this pseudonym is on record.", code="subject_not_found")
    return 0, 0, held
