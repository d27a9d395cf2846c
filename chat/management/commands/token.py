from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.actors import source_named
from chat.tokens import token_create, tokens_revoke

User = get_user_model()


class Command(BaseCommand):
    help = "Creates, lists or revokes API tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=("create", "list", "revoke"))
        parser.add_argument("username")
        parser.add_argument("--days", type=int, help="lifetime in days (default: TOKEN_DAYS)")
        parser.add_argument(
            "--make-user", action="store_true", help="make the user, without a password, if there is none"
        )
        parser.add_argument("--only", action="store_true", help="with create: revoke the user's other tokens")

    def handle(self, *args: Any, **options: Any) -> None:
        # Before anything is made or revoked.
        days = options["days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--days must be 1 to 3650")
        user = self._user(options["username"], make=options["make_user"])
        if options["action"] == "list":
            for row in user.auth_token_set.order_by("created"):
                self.stdout.write(f"{row.token_key}...  made {row.created:%Y-%m-%d}  expires {row.expiry:%Y-%m-%d}")
            return
        if options["action"] == "revoke" or options["only"]:
            revoked = tokens_revoke(user=user, source="command")
            if options["action"] == "revoke":
                self.stdout.write(f"{revoked} revoked")
                return
        self.stdout.write(token_create(user=user, lifetime=timedelta(days=days) if days else None, source="command"))

    def _user(self, username: str, *, make: bool) -> Any:
        user = User.objects.filter(username=username).first()
        if user is None:
            if not make:
                raise CommandError(f"There is no user {username}. Add --make-user to make one without a password.")
            with source_named("command"):
                user = User.objects.create_user(username=username)
        return user
