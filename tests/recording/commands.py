"""Every management command: the kinds of the events it leaves, or why it leaves none."""

import base64
import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from audit.models import TurnContent
from chat.models import Turn
from tests.recording.world import PASSWORD, World


@dataclass(frozen=True)
class Ran:
    """What a recipe may use."""

    world: World
    folder: Path
    patch: pytest.MonkeyPatch

    def run(self, *arguments: str, **options: Any) -> None:
        call_command(*arguments, **options, stdout=io.StringIO(), stderr=io.StringIO())


@dataclass(frozen=True)
class Command:
    kinds: frozenset[str]
    act: Callable[[Ran], object]


def leaving(*kinds: str) -> Callable[[Callable[[Ran], object]], Command]:
    return lambda act: Command(frozenset(kinds), act)


def conversations(ran: Ran) -> None:
    session_id = str(uuid.UUID(ran.world.ask().json()["meta"]["session_id"]))
    ran.run("conversations", "export", session_id, "--reason", "asked for")
    ran.run("conversations", "forget", session_id, "--yes")


def createsuperuser(ran: Ran) -> None:
    ran.patch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    ran.run("createsuperuser", "--noinput", "--username", "planted-new", "--email", "planted@mail.example")


def changepassword(ran: Ran) -> None:
    # The terminal's.
    ran.patch.setattr("getpass.getpass", lambda prompt="": "planted-Password-4712")
    ran.run("changepassword", ran.world.person.username)


def remove_stale_contenttypes(ran: Ran) -> None:
    stale = ContentType.objects.create(app_label="auth", model="gone")
    Permission.objects.create(content_type=stale, codename="gone", name="planted")
    ran.run("remove_stale_contenttypes", interactive=False)


def token(ran: Ran) -> None:
    ran.run("token", "create", "planted-new", "--make-user")
    ran.run("token", "revoke", "planted-new")


def knowledge(ran: Ran) -> None:
    folder = ran.folder / "planted-folder"
    folder.mkdir()
    (folder / "planted.md").write_text("# planted-title\n\nGates swing outward, says planted-text.\n", "utf-8")
    ran.run("knowledge", "ingest", str(folder))
    (folder / "planted.md").rename(folder / "other.md")
    ran.run("knowledge", "ingest", str(folder), "--prune")


def audit(ran: Ran) -> None:
    turn_id = ran.world.ask().json()["meta"]["turn_id"]
    ran.run("audit", "seal")
    ran.run("audit", "export", "--output", str(ran.folder / "turns.zip"), "--reason", "a complaint", "--content")
    ran.run("audit", "replay", turn_id, "--reason", "a complaint")
    session_id = str(Turn.objects.get(pk=turn_id).session_id)
    ran.run("audit", "hold", "place", session_id, "--reason", "a complaint")
    ran.run("audit", "hold", "release", session_id, "--reason", "it is settled")
    with override_settings(CONTENT_KEYS=f"newer:{base64.b64encode(b'n' * 32).decode()},{settings.CONTENT_KEYS}"):
        ran.run("audit", "rotate-keys")
    TurnContent.objects.update(expires_at=timezone.now() - timedelta(days=2))
    ran.run("audit", "purge")
    ran.run("audit", "erase", "--subject", ran.world.person.username, "--reason", "he asked for it", "--yes")


COMMANDS: dict[str, Command] = {
    "ask": leaving("turn.completed", "user.created")(lambda r: r.run("ask", "May a planted-question be asked?")),
    "audit": leaving(
        "signing_key.used",
        "export.made",
        "turn.replayed",
        "hold.placed",
        "hold.released",
        "keys.rotated",
        "content.purged",
        "session.deleted",
        "subject.erased",
    )(audit),
    "changepassword": leaving("user.changed")(changepassword),
    "conversations": leaving("export.made", "session.deleted")(conversations),
    "createsuperuser": leaving("user.created")(createsuperuser),
    "flags": leaving("flag.changed")(lambda r: r.run("flags", "set", "CONV_DUAL_WRITE", "on")),
    "knowledge": leaving("knowledge.changed")(knowledge),
    "remove_stale_contenttypes": leaving("permission.deleted")(remove_stale_contenttypes),
    "token": leaving("user.created", "token.created", "token.revoked")(token),
    "waffle_delete": leaving("flag.changed")(lambda r: r.run("waffle_delete", "--switches", "CONV_DUAL_WRITE")),
    "waffle_flag": leaving("flag.changed")(lambda r: r.run("waffle_flag", "FEATURE_DYNAMIC_PROMPTS", "--deactivate")),
    "waffle_switch": leaving("flag.changed")(lambda r: r.run("waffle_switch", "CONV_DUAL_WRITE", "on")),
}
READS = "it reads or prints"
FILES = "it writes files of a developer's, not the product's state"
SCHEMA = "it changes tables; which release runs is told by configuration.loaded at the next start"
OWNER = "it writes past the product, as whoever holds the database's password can"
NO_EVENT: dict[str, str] = {
    "check": READS,
    "clearsessions": "it deletes sign-ins that have expired and admit nobody",
    "collectstatic": FILES,
    "compilemessages": FILES,
    "createcachetable": SCHEMA,
    "dbshell": OWNER,
    "diffsettings": READS,
    "dumpdata": OWNER,
    "findstatic": READS,
    "flush": OWNER,
    "generateschema": READS,
    "guard": READS,
    "inspectdb": READS,
    "loaddata": OWNER,
    "makemessages": FILES,
    "makemigrations": FILES,
    "migrate": SCHEMA,
    "optimizemigration": FILES,
    "runserver": "what it serves is recorded; it is a developer's own and records no configuration",
    "sendtestemail": "it changes nothing here",
    "shell": "what is changed in it is recorded by the models, with the source shell",
    "showmigrations": READS,
    "spectacular": READS,
    "sqlflush": READS,
    "sqlmigrate": READS,
    "sqlsequencereset": READS,
    "squashmigrations": FILES,
    "startapp": FILES,
    "startproject": FILES,
    "test": "it makes a database of its own",
    "testserver": "it makes a database of its own",
    "waffle_sample": "nothing reads samples",
    "worker": "its start is recorded: tests/ops/test_configuration.py; what its jobs do is on record by itself",
}
