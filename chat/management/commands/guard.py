import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chat.guard import explain


class Command(BaseCommand):
    help = "Explains what the guard does to a model's reply: outcome, codes with their place and sentence, and a diff."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a file that holds a reply; - for standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in options["files"]:
            try:
                raw = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
            if len(options["files"]) > 1:
                self.stdout.write(f"== {name}")
            self.stdout.write(explain(raw))
