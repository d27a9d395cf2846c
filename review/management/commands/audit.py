import json
import sys
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connection
from tqdm import tqdm

from audit.holds import hold_place, hold_release
from audit.models import Leaf, LegalHold, SigningKey
from audit.publishing import LogForked, checkpoints_publish
from audit.retention import purge_run
from audit.rotation import keys_rewrap
from audit.sealing import SealingElsewhere, log_seal, unsealed
from audit.signing import signer, verifiers
from audit.tiles import TileError
from audit.tree import checkpoint_latest
from audit.verification import Report
from chat.erasing import subject_erase, subject_find
from onesource.errors import ProblemError
from onesource.postgresql.connection import DeadlineConnection
from onesource.processes import processes_sensible
from review.filters import TurnFilters
from review.forms import TurnSearchForm
from review.replaying import turn_replay
from review.services import turns_export
from review.verification import trail_verify

SOURCE = "command"
SHOWN = 20
# A person waits, and a disk has room.
EXPORT_LIMIT = 1_000_000


class Command(BaseCommand):
    help = "Proves, seals and exports the audit trail, and erases, holds and replays what is recorded in it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
        verify = tasks.add_parser("verify", help="check every event, the log, checkpoints and published checkpoints")
        verify.add_argument("--json", action="store_true", dest="as_json", help="the report as JSON")
        help_text = "to share a long trail on PostgreSQL among, 1 to 32 (default %(default)s)"
        verify.add_argument(
            "--processes", type=processes_argument, metavar="N", default=processes_sensible(), help=help_text
        )
        tasks.add_parser("seal", help="give all waiting events their places in the log now, and publish")
        checkpoint = tasks.add_parser("checkpoint", help="print the newest signed checkpoint")
        checkpoint.add_argument("--keys", action="store_true", help="print the verification keys instead")
        export = tasks.add_parser("export", help="write turns as CSV, or as a ZIP that verifies offline; recorded")
        _export_arguments(export)
        _erasing_arguments(tasks)
        replay = tasks.add_parser("replay", help="ask a recorded question again, with its flags and passages; recorded")
        replay.add_argument("turn", type=uuid_argument, help="the id of the turn")
        replay.add_argument("--reason", required=True, help="why; goes on record")

    def handle(self, *args: Any, task: str, **options: Any) -> None:
        tasks: dict[str, Callable[..., None]] = {
            "verify": self.verify,
            "seal": self.seal,
            "checkpoint": self.checkpoint,
            "export": self.export,
            "replay": self.replay,
            "erase": self.erase,
            "hold": self.hold,
            "purge": self.purge,
            "rotate-keys": self.rotate_keys,
        }
        try:
            patience()
            tasks[task](**options)
        except ProblemError as error:
            told = "; ".join(message for messages in (error.errors or {}).values() for message in messages)
            raise CommandError(f"{error.detail} {told}".strip()) from error
        except Error as error:
            # --traceback shows where.
            told = f"{error}".partition("\n")[0]
            raise CommandError(f"The database cannot be reached, or it refused this: {told}") from error

    def verify(self, *, as_json: bool, processes: int, **options: Any) -> None:
        with _bar(Leaf.objects.count() if sys.stderr.isatty() else None, "events") as bar:
            report = trail_verify(progress=bar.update, processes=processes)
        if as_json:
            self.stdout.write(_report_json(report))
        else:
            self._report_tell(report)
        if not report.ok:
            sys.exit(1)

    def _report_tell(self, report: Report) -> None:
        told: dict[str, int] = {}
        for finding in report.findings:
            told[finding.code] = told.get(finding.code, 0) + 1
            if told[finding.code] <= SHOWN:
                level = "notice" if finding.notice else "WRONG "
                self.stdout.write(f"{level} {finding.code:<20} {finding.where}: {finding.detail}")
        for code, count in report.counts.items():
            if count > SHOWN:
                self.stdout.write(f"       {code:<20} and {count - SHOWN} more")
        self.stdout.write(
            f"\n{report.events} events ({report.unsealed} waiting for their place in the log), "
            f"{report.checkpoints} checkpoints, {report.published} published ones."
        )
        if not settings.AUDIT_CHECKPOINT_DIR:
            self.stdout.write(
                "Nothing outside the database was compared: without AUDIT_CHECKPOINT_DIR nobody can see that all of it "
                "was replaced by an older copy."
            )
        wrong = sum(report.counts.values())
        notices = sum(1 for finding in report.findings if finding.notice)
        if report.ok:
            self.stdout.write(self.style.SUCCESS("The trail is whole." + (f" {notices} notices." if notices else "")))
        else:
            self.stdout.write(self.style.ERROR(f"The trail is NOT what was recorded: {wrong} findings."))

    def seal(self, **options: Any) -> None:
        with _bar(None, "events") as bar:
            try:
                total = log_seal(progress=bar.update)
                checkpoints_publish()
            except SealingElsewhere:
                raise CommandError("Another process is sealing. Try again in a moment.") from None
            except (LogForked, TileError) as error:
                raise CommandError(f"{error}") from None
        newest = checkpoint_latest()
        self.stdout.write(f"{total} events sealed; the log has {newest.size if newest else 0}.")

    def checkpoint(self, *, keys: bool, **options: Any) -> None:
        if keys:
            for verifier in verifiers():
                used = SigningKey.objects.filter(vkey=verifier.vkey).first()
                state = f"first used {used.first_used_at:%Y-%m-%d %H:%M} UTC" if used else "not used yet"
                now = ", signs now" if verifier.vkey == signer().vkey else ""
                self.stdout.write(f"{verifier.vkey}  # {state}{now}")
            return
        newest = checkpoint_latest()
        if newest is None:
            raise CommandError("There is no checkpoint yet: run manage.py audit seal, or the worker.")
        self.stdout.write(newest.note, ending="")
        waiting = unsealed()
        self.stderr.write(f"{newest.at:%Y-%m-%d %H:%M:%S} UTC; {waiting.events} events wait for their place.")

    def export(self, *, output: Path, reason: str, content: bool, **options: Any) -> None:
        format_ = output.suffix.lstrip(".")
        if format_ not in ("csv", "zip") or (content and format_ != "zip"):
            raise CommandError("--output must end in .csv or .zip; --content goes into a .zip only.")
        if output.exists():
            raise CommandError(f"{output} is there already; name a new file.")
        try:
            # Before the export is on record; only for the caller's eyes, and never over another file.
            with output.open("xb") as file:
                try:
                    output.chmod(0o600)
                    self._export_write(file, _filters(options), format_, reason, content)
                    file.flush()
                except BaseException:
                    # An empty file stands in the way of the next try, and a part of a CSV looks like all of it.
                    output.unlink()
                    raise
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"Written to {output}.")

    def _export_write(
        self, file: IO[bytes], filters: TurnFilters, format_: str, reason: str, with_content: bool
    ) -> None:
        pieces = turns_export(
            filters=filters,
            format_=format_,
            reason=reason,
            actor_ref="",
            source=SOURCE,
            with_content=with_content,
            limit=EXPORT_LIMIT,
        )
        with _bar(None, "bytes") as bar:
            for piece in pieces:
                written = piece.encode() if isinstance(piece, str) else piece
                file.write(written)
                bar.update(len(written))

    def erase(self, *, subject: str, reason: str, yes: bool, **options: Any) -> None:
        ref = subject_find(subject)
        if not yes:
            told = f"All texts of {subject} ({ref}), their keys and the link to the account will be gone for good."
            self._confirm(f"{told}\nThe evidence stays. Go on? [y/N] ")
        with _bar(None, "sessions") as bar:
            erased = subject_erase(
                subject_ref=ref,
                reason=reason,
                actor_ref="",
                source=SOURCE,
                progress=partial(_move, bar),
            )
        told = f"{erased.sessions} conversations, {erased.turns} turns, {erased.keys} keys"
        self.stdout.write(f"Erased: {told}, and the link to the account.")
        if erased.held:
            self.stdout.write(f"{erased.held} turns are under a legal hold and go when it is released.")
        if not erased.files_clean:
            self.stdout.write("Deleted bytes may be in the database's files for some minutes more.")

    def _confirm(self, question: str) -> None:
        try:
            answer = input(question)
        except EOFError:
            raise CommandError("Nobody is there to ask, and nothing was erased: add --yes.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was erased.")

    def hold(self, *, act: str, session: uuid.UUID | None, reason: str, **options: Any) -> None:
        if act == "list":
            for hold in LegalHold.objects.filter(released_at=None).order_by("placed_at"):
                self.stdout.write(f"{hold.session_id}  since {hold.placed_at:%Y-%m-%d %H:%M} UTC  {hold.reason}")
            return
        if session is None:
            raise CommandError(f"audit hold {act} needs the id of a session.")
        if act == "place":
            placed = hold_place(session_id=session, reason=reason, actor_ref="", source=SOURCE)
            self.stdout.write(f"{session} is held; {placed.turns} of its turns have their texts.")
        else:
            released = hold_release(session_id=session, reason=reason, actor_ref="", source=SOURCE)
            self.stdout.write(f"{session} is held no more; the texts of {released.turns} turns went with the hold.")

    def purge(self, **options: Any) -> None:
        with _bar(None, "turns") as bar:
            purged = purge_run(progress=partial(_move, bar))
        self.stdout.write(
            f"Deleted the texts of {purged.turns} turns and {purged.keys} keys; {purged.held} turns kept under a hold."
        )
        if not purged.finished:
            self.stdout.write("Not all that is due is gone from the files yet; the worker goes on with it.")

    def rotate_keys(self, **options: Any) -> None:
        with _bar(None, "keys") as bar:
            done = keys_rewrap(actor_ref="", source=SOURCE, progress=partial(_move, bar))
        self.stdout.write(f"{done.rows} data keys are now under {done.to}.")
        for key_id, count in sorted(done.left.items()):
            self.stdout.write(f"{count} are under {key_id}, which must stay in CONTENT_KEYS.")
        if not done.left:
            self.stdout.write("Every other key may leave CONTENT_KEYS once all workers run with the new one in front.")
        else:
            raise CommandError("Some data keys could not be put under the new key: see above.")

    def replay(self, *, turn: uuid.UUID, reason: str, **options: Any) -> None:
        replay = turn_replay(turn_id=turn, reason=reason, actor_ref="", source=SOURCE)
        for caveat in replay.caveats:
            self.stdout.write(f"Not as it was: {caveat}")
        for one in replay.compared:
            told = one.recorded if one.same else f"{one.recorded}  ->  {one.replayed}"
            self.stdout.write(f"{'same   ' if one.same else 'DIFFERS'} {one.name}: {told}")
        self.stdout.write("same    text" if not replay.text_diff else "DIFFERS text:")
        for line in replay.text_diff:
            self.stdout.write(f"        {line}")


def uuid_argument(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an id like 0f8fad5b-d9cb-469f-a165-70867728950e") from None


def processes_argument(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 32:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 1 to 32")


def patience() -> None:
    """A person waits for this, not a request: statements may take as long as they take."""
    if connection.vendor == "postgresql":
        DeadlineConnection.limit = float("inf")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="a new file, .csv or .zip")
    parser.add_argument("--reason", required=True, help="why; goes on record, so no names and no text of the turns")
    parser.add_argument("--content", action="store_true", help="with questions and answers, as far as they are held")
    form = TurnSearchForm()
    for name in form.names():
        field = next(field for field in form if field.html_name == name)
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, help=f"{field.help_text}".replace("%", "%%"))


def _erasing_arguments(tasks: Any) -> None:
    erase = tasks.add_parser("erase", help="delete all texts of a person, their keys and the link to the account")
    erase.add_argument("--subject", required=True, help="a user name, or the pseudonym that records show")
    erase.add_argument("--reason", required=True, help="why; goes on record, so no names")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    hold = tasks.add_parser("hold", help="keep the texts of a conversation whatever deletes them, until released")
    hold.add_argument("act", choices=("place", "release", "list"))
    hold.add_argument("session", type=uuid_argument, nargs="?")
    hold.add_argument("--reason", default="", help="why; goes on record, so no names")
    tasks.add_parser("purge", help="delete now what is past its retention; the worker does it every five minutes")
    tasks.add_parser("rotate-keys", help="put all data keys under the newest of CONTENT_KEYS")


def _move(bar: "tqdm[Any]", done: int, total: int | None) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _filters(options: dict[str, Any]) -> TurnFilters:
    form = TurnSearchForm({name: options[name] for name in TurnSearchForm().names() if options.get(name)})
    form.check()
    return form.filters()


def _bar(total: int | None, unit: str) -> "tqdm[Any]":
    return tqdm(total=total, unit=f" {unit}", disable=not sys.stderr.isatty(), unit_scale=True)


def _report_json(report: Report) -> str:
    return json.dumps(
        {
            "ok": report.ok,
            "events": report.events,
            "unsealed": report.unsealed,
            "checkpoints": report.checkpoints,
            "published": report.published,
            "counts": dict(report.counts),
            "findings": [asdict(finding) for finding in report.findings],
        },
        indent=2,
    )
