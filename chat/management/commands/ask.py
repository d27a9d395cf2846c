import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from audit.services import subject_ref_of
from chat.api.serializers import QuestionSerializer
from chat.guard import draft_text
from chat.services import turn_answer, turn_prepare
from flags import snapshot
from flags.snapshot import Subject
from onesource.errors import ProblemError

USER = "terminal"


class Command(BaseCommand):
    help = "Asks a question in the terminal. The turn is recorded like any other, under the user `terminal`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("question")
        parser.add_argument("--session", help="the session to go on with, as printed by an earlier call")
        parser.add_argument("--plain", action="store_true", help="use /chat instead of /chat/enhanced")

    def handle(self, *args: Any, **options: Any) -> None:
        # A person reads this: the log of a turn that went well would stand between question and answer.
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.WARNING)
        try:
            self._ask(options)
        finally:
            root.setLevel(level)

    def _ask(self, options: dict[str, Any]) -> None:
        body = {"question": options["question"], "session_id": options["session"]}
        asked = QuestionSerializer(data=body)
        if not asked.is_valid():
            raise CommandError("; ".join(f"{name}: {' '.join(texts)}" for name, texts in asked.errors.items()))
        try:
            user, _ = get_user_model().objects.get_or_create(username=USER)
        except DatabaseError:
            raise CommandError("The database is not prepared or not there. Run: make run") from None
        try:
            answer = self._answer(user, asked.validated_data, plain=options["plain"])
        except ProblemError as error:
            raise CommandError(error.detail) from None
        self.stdout.write(draft_text({**answer, "summary": ""}))
        for citation in answer["citations"]:
            self.stdout.write(f"[{citation['n']}] {citation['reference']} ({citation['edition']})")
        self.stdout.write(f"\n{answer['meta']['disclaimer']}. Session {answer['meta']['session_id']}")

    def _answer(self, user: Any, asked: dict[str, Any], *, plain: bool) -> dict[str, Any]:
        prepared = turn_prepare(
            subject=Subject(subject_ref_of(user), user.pk),
            question=asked["question"],
            session_id=asked.get("session_id"),
            endpoint="chat" if plain else "enhanced",
            flags=snapshot.current(),
        )
        return turn_answer(prepared)
