import json
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.services import subject_ref_of
from flags.registry import BadValue, UnknownFlag, registered
from flags.services import ReasonRequired, flag_roll_out, flag_set
from flags.status import Changed, Status, change_text, history, statuses

SOURCE = "command"
HISTORY = 20


class Command(BaseCommand):
    help = "Lists, shows and changes feature flags and settings. Every change goes on record with its reason."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="list|get|set|rollout|history")
        listing = actions.add_parser("list", help="all flags, what is in force and why")
        getting = actions.add_parser("get", help="one flag")
        setting = actions.add_parser("set", help="on or off for everyone, or a setting's value")
        rolling = actions.add_parser("rollout", help="open a flag to a share of all users")
        told = actions.add_parser("history", help="what was changed, by whom and why")
        for action in (getting, setting, rolling):
            action.add_argument("key")
        setting.add_argument("value", help="on, off, a number or a choice")
        rolling.add_argument("percent", type=float, help="0 to 100, in steps of 0.01")
        told.add_argument("key", nargs="?")
        told.add_argument("--limit", type=int, default=HISTORY)
        for action in (setting, rolling):
            action.add_argument("--reason", default="", help="why; required for kill switches")
            action.add_argument("--as", dest="username", default="", help="puts this user on record as who changed it")
        for action in (listing, getting, told):
            action.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except UnknownFlag as error:
            raise CommandError(f"{error.args[0]}. `manage.py flags list` shows them.") from None
        except ReasonRequired as error:
            raise CommandError(f"{error}: --reason WHY") from None
        except BadValue as error:
            raise CommandError(str(error)) from None

    def _list(self, options: dict[str, Any]) -> None:
        found = statuses()
        if options["json"]:
            self.stdout.write(json.dumps([status.facts() for status in found], indent=2))
            return
        width = max(len(status.key) for status in found)
        self.stdout.write(f"{'FLAG':{width}}  {'STATE':16} {'KIND':12} REMARKS")
        for status in found:
            self.stdout.write(f"{status.key:{width}}  {status.state:16} {status.entry.kind:12} {_remarks(status)}")

    def _get(self, options: dict[str, Any]) -> None:
        (status,) = statuses([options["key"]])
        if options["json"]:
            self.stdout.write(json.dumps(status.facts(), indent=2))
            return
        entry = status.entry
        self.stdout.write(f"{status.key}: {status.state}\n{entry.description}")
        self.stdout.write(
            f"{entry.type}, {entry.kind}, owner {entry.owner}, default {entry.default}; {entry.expectation()}"
        )
        if remarks := _remarks(status):
            self.stdout.write(remarks)
        if status.last_change:
            self.stdout.write(_line(status.last_change))

    def _set(self, options: dict[str, Any]) -> None:
        value = registered(options["key"]).parse(options["value"])
        flag_set(key=options["key"], value=value, **self._change(options))
        self._tell(options["key"])

    def _rollout(self, options: dict[str, Any]) -> None:
        share = round(options["percent"] * 100)
        if abs(share - options["percent"] * 100) > 1e-6:
            raise CommandError("a share goes in steps of 0.01 percent")
        flag_roll_out(key=options["key"], rollout_bp=share, **self._change(options))
        self._tell(options["key"])

    def _history(self, options: dict[str, Any]) -> None:
        if options["key"]:
            registered(options["key"])
        changes = list(islice(history(options["key"]), max(options["limit"], 0)))
        if options["json"]:
            self.stdout.write(json.dumps([change.facts() for change in changes], indent=2))
            return
        for change in changes:
            self.stdout.write(_line(change))

    def _change(self, options: dict[str, Any]) -> dict[str, Any]:
        actor_ref = ""
        if options["username"]:
            user = get_user_model().objects.filter(username=options["username"]).first()
            if user is None:
                raise CommandError(f"There is no user {options['username']}.")
            actor_ref = subject_ref_of(user)
        return {"actor_ref": actor_ref, "reason": options["reason"], "source": SOURCE}

    def _tell(self, key: str) -> None:
        (status,) = statuses([key])
        self.stdout.write(f"{key}: {status.state}")


def _remarks(status: Status) -> str:
    remarks = [f"PINNED by {status.key}"] if status.pinned else []
    if status.entry.boot and not status.pinned:
        remarks.append(f"read at the start from the variable {status.key}")
    if status.stale:
        remarks.append(f"STALE: {status.stale}")
    return "; ".join(remarks)


def _line(change: Changed) -> str:
    who = change.actor or "nobody named"
    why = f": {change.reason}" if change.reason else ""
    old, new = change_text(change.old), change_text(change.new)
    return f"{change.at:%Y-%m-%d %H:%M:%S} {change.key}  {old} -> {new}  by {who} ({change.source}){why}"
