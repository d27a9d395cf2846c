"""Erasing a person: all texts, the keys that they are under, and the link from the account to its pseudonym."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from django.db import transaction

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
    total: int
    progress: Callable[[int, int | None], None] | None
    sessions: int = 0
    turns: int = 0

    def add(self, turns: int) -> None:
        self.sessions += 1
        self.turns += turns
        if self.progress:
            self.progress(self.sessions, self.total)


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
    """Erases session by session, each in a transaction with its event; then the keys and the alias, with
    subject.erased. Killed in between, it goes on where it stopped when it is run again.

    The account stays, signed out and without its tokens: who uses it again gets a new pseudonym. Turns under way end
    unrecorded. Raises BadInput for the reason, NotFound for a pseudonym that is not known.
    """
    reason = reason_check(reason)
    tally = _Tally(sessions_of(subject_ref).count(), progress)
    # Not until there are none: somebody may be asking faster than this deletes.
    _sessions_erase(subject_ref, actor_ref, tally, limit=tally.total)
    erased = _finish(subject_ref, reason, actor_ref, source, tally)
    # Those begun meanwhile, of which no text is left. No more can come that hold any.
    _sessions_erase(subject_ref, actor_ref, tally)
    return replace(erased, sessions=tally.sessions, files_clean=files_clean(*TABLES))


def _sessions_erase(subject_ref: str, actor_ref: str, tally: _Tally, limit: int | None = None) -> None:
    seen = 0
    while session_ids := list(
        sessions_of(subject_ref).order_by("created_at", "pk").values_list("pk", flat=True)[:BATCH]
    ):
        for session_id in session_ids:
            if seen == limit:
                return
            seen += 1
            try:
                erased = session_delete(subject=Subject(subject_ref), session_id=session_id, actor_ref=actor_ref)
            except NotFound:
                # Its owner was faster.
                continue
            tally.add(erased.turns)


def _finish(subject_ref: str, reason: str, actor_ref: str, source: str, tally: _Tally) -> Erasure:
    """Locks in the order of a turn: its Idempotency-Key, the alias under which it may make a key, the key.

    A turn that has read one of the keys and is not committed yet refers to it: while the key is locked it waits, and
    then the database refuses it.
    """
    with transaction.atomic():
        IdempotencyKey.objects.filter(subject_ref=subject_ref).delete()
        aliases = SubjectAlias.objects.filter(subject_ref=subject_ref)
        keys = ContentKey.objects.filter(subject_ref=subject_ref)
        user_ids = list(aliases.select_for_update().values_list("user_id", flat=True))
        list(keys.select_for_update().order_by("pk").values_list("pk"))
        begun = sessions_of(subject_ref).count()
        contents = subject_content_erase(subject_ref=subject_ref)
        erased = Erasure(
            subject_ref,
            sessions=tally.sessions + begun,
            turns=tally.turns + contents.turns,
            keys=keys_erase(subject_ref=subject_ref),
            held=HeldContent.objects.filter(key__subject_ref=subject_ref).count(),
            files_clean=False,
        )
        if not (user_ids or erased.sessions or erased.turns or erased.keys):
            return _again(erased)
        for user_id in user_ids:
            account_unlink(user_id=user_id, source=source)
        aliases.delete()
        facts = {name: value for name, value in asdict(erased).items() if name != "files_clean"}
        event_record(
            kind=actions.SUBJECT_ERASED,
            stream=f"subject:{subject_ref}",
            actor_ref=actor_ref,
            facts=facts | {"reason": reason, "source": source},
        )
    return erased


def _again(erased: Erasure) -> Erasure:
    """Nothing was left to erase: no second event. Raises NotFound."""
    if not Event.objects.filter(stream=f"subject:{erased.subject_ref}").exists():
        raise NotFound("Nobody of this pseudonym is on record.", code="subject_not_found")
    return erased
