import json
import sys
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Q, QuerySet
from django.utils import timezone
from tqdm import tqdm

from audit.models import SubjectAlias
from chat.exporting import conversation_export
from chat.models import Session
from chat.recording import retention
from chat.selectors import sessions_of
from chat.services import session_delete
from chat.stores.base import ConversationStore
from chat.stores.conversation import hot_stores, primary
from chat.stores.reconciling import session_reconcile
from flags import snapshot
from flags.snapshot import Subject
from onesource.errors import ProblemError

REASON_CHARS = 500


class Command(BaseCommand):
    help = "Compares the conversation stores with the record, exports a conversation, or forgets some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        tasks = parser.add_subparsers(dest="task", required=True, metavar="reconcile|export|forget")
        reconcile = tasks.add_parser("reconcile", help="compare the hot stores with the record; exit 1 if they differ")
        reconcile.add_argument("--session", type=_session_id, help="only this one")
        reconcile.add_argument(
            "--store", action="append", help="only this one (may be repeated); default: those that turns write now"
        )
        reconcile.add_argument("--repair", action="store_true", help="write what the record says to the stores")
        export = tasks.add_parser("export", help="write a conversation as JSON; the export is recorded")
        export.add_argument("session", type=_session_id)
        export.add_argument("--reason", required=True, help="why; goes on record, so no names and no text of it")
        export.add_argument("--output", type=Path, help="a new file (default: standard output)")
        forget = tasks.add_parser("forget", help="erase texts as DELETE does; the evidence stays")
        which = forget.add_mutually_exclusive_group(required=True)
        which.add_argument("session", type=_session_id, nargs="?")
        which.add_argument("--subject", help="all conversations of this pseudonym, as records name it")
        which.add_argument("--user", help="all conversations of the user of this name")
        forget.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, task: str, **options: Any) -> None:
        tasks: dict[str, Callable[..., None]] = {
            "reconcile": self.reconcile,
            "export": self.export,
            "forget": self.forget,
        }
        tasks[task](**options)

    def reconcile(self, *, session: uuid.UUID | None, store: list[str] | None, repair: bool, **options: Any) -> None:
        flags = snapshot.current()
        stores = _stores(store)
        found: Counter[tuple[str, str]] = Counter()
        diverged = 0
        for one in self._progress(_sessions(session)):
            for compared in session_reconcile(
                one,
                stores,
                limit=2 * int(flags.number("CONV_MAX_TURNS")),
                ttl_seconds=int(flags.number("CONV_TTL_SECONDS")),
                repair=repair,
            ):
                found[compared.store, compared.finding] += 1
                diverged += compared.diverged
                if compared.finding != "same":
                    outcome = ", repaired" if compared.repaired else ""
                    self.stdout.write(f"{compared.session_id} {compared.store}: {compared.finding}{outcome}")
        for name in sorted({name for name, _ in found}):
            told = ", ".join(f"{count} {finding}" for (of, finding), count in sorted(found.items()) if of == name)
            self.stdout.write(f"{name}: {told}")
        if not found:
            self.stdout.write("There is no conversation to compare.")
        if diverged:
            hint = "" if repair else " Add --repair to write what the record says."
            raise CommandError(f"{diverged} differ from the record.{hint}")

    def export(self, *, session: uuid.UUID, reason: str, output: Path | None, **options: Any) -> None:
        if not reason.strip() or len(reason) > REASON_CHARS:
            raise CommandError(f"--reason must be 1 to {REASON_CHARS} characters")
        try:
            # Before the export is on record; only for the caller's eyes, and never over another file.
            target = output.open("x", encoding="utf-8") if output else None
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        try:
            exported = conversation_export(session_id=session, reason=reason.strip(), source="command")
        except ProblemError as error:
            if target and output:
                target.close()
                output.unlink()
            raise CommandError(error.detail) from None
        text = json.dumps(exported, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
        if target is None:
            self.stdout.write(text)
            return
        with target:
            Path(target.name).chmod(0o600)
            target.write(text + "\n")
        self.stdout.write(f"{len(exported['turns'])} turns written to {output}.")

    def forget(
        self, *, session: uuid.UUID | None, subject: str | None, user: str | None, yes: bool, **options: Any
    ) -> None:
        sessions = list(_forgotten(session, subject, user))
        if not sessions:
            raise CommandError("There is no such conversation, or it was deleted before.")
        if not yes:
            self._confirm(f"Erase the texts of {len(sessions)} conversation(s)? They cannot be had back. [y/N] ")
        failed = 0
        for one in self._progress(sessions):
            try:
                session_delete(subject=Subject(one.subject_ref), session_id=one.pk, actor_ref="")
            except ProblemError as error:
                failed += 1
                self.stderr.write(f"{one.pk}: {error.detail}")
        self.stdout.write(f"{len(sessions) - failed} forgotten.")
        if failed:
            raise CommandError(f"{failed} could not be forgotten.")

    def _confirm(self, question: str) -> None:
        if not sys.stdin.isatty():
            raise CommandError("Nobody is there to ask: add --yes to erase.")
        if input(question).strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was erased.")

    def _progress(self, sessions: Iterable[Session]) -> Iterable[Session]:
        total = sessions.count() if isinstance(sessions, QuerySet) else None
        each = sessions.iterator(chunk_size=500) if isinstance(sessions, QuerySet) else sessions
        shown: Iterable[Session] = tqdm(each, total=total, unit="session", disable=not self.stderr.isatty())
        return shown


def _session_id(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ArgumentTypeError(f"{value!r} is not the id of a session") from None


def _stores(names: list[str] | None) -> list[ConversationStore]:
    """Those named, or those that a turn writes now. Raises CommandError."""
    configured = hot_stores()
    if not configured:
        raise CommandError("No store stands in front of the record here: set REDIS_URL or MONGO_URL.")
    for name in names or ():
        if name not in configured:
            raise CommandError(f"{name} is not configured here; configured: {', '.join(configured)}.")
    flags = snapshot.current()
    first = primary(flags)
    written = [store for store in configured.values() if store is first or flags.boolean("CONV_DUAL_WRITE")]
    chosen = [configured[name] for name in dict.fromkeys(names or ())] or written
    if not chosen:
        raise CommandError(f"Turns write no hot store now. Name one to compare: --store {next(iter(configured))}")
    return chosen


def _sessions(session_id: uuid.UUID | None) -> "QuerySet[Session]":
    """What a store may hold something of: not what is older than the retention. Raises CommandError."""
    if session_id is not None:
        found = Session.objects.filter(pk=session_id)
        if not found.exists():
            raise CommandError("There is no such conversation.")
        return found
    since = timezone.now() - retention(snapshot.current())
    return Session.objects.filter(Q(last_turn_at__gte=since) | Q(deleted_at__gte=since)).order_by("pk")


def _forgotten(session_id: uuid.UUID | None, subject: str | None, user: str | None) -> "QuerySet[Session]":
    if session_id is not None:
        return Session.objects.filter(pk=session_id, deleted_at=None)
    if user is not None:
        alias = SubjectAlias.objects.filter(user__username=user).first()
        if alias is None:
            raise CommandError(f"There is no user {user} who asked anything.")
        subject = alias.subject_ref
    return sessions_of(subject or "")
