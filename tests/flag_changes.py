"""How soon every worker of a server obeys a change of a flag, by each way to change one."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.environment import ROOT
from tests.services.gunicorn import USER, Gunicorn

KEY = "FEATURE_SUGGESTED_ACTIONS"
# Kept connections stay with the worker that took them; so many reach all of a few workers.
CONNECTIONS = 24
# In the order in which they turn the flag off and on for the user.
WAYS = (("admin", False), ("command", True), ("update", False), ("add", True), ("remove", False), ("api", True))
CHANGER = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from flags.models import Flag
KEY, USER = sys.argv[1:]
owner = User.objects.get(username=USER)
root, _ = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)
browser = Client(headers={"host": "127.0.0.1"})
browser.force_login(root)
flag = Flag.objects.get(name=KEY)
ways = {
    "admin": lambda: browser.post(
        f"/admin/flags/flag/{flag.pk}/change/",
        {"everyone": "false", "rollout_bp": 0, "salt": flag.salt, "note": "", "users": "", "reason": "measured"},
    ).status_code,
    "command": lambda: call_command("flags", "set", KEY, "on", stdout=sys.stderr),
    "update": lambda: Flag.objects.filter(name=KEY).update(everyone=None, rollout_bp=0),
    "add": lambda: flag.users.add(owner),
    "remove": lambda: flag.users.clear(),
    "api": lambda: browser.put(
        f"/flags/{KEY}", json.dumps({"value": True}), content_type="application/json"
    ).status_code,
}
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(ways[line.strip()]()), flush=True)
"""


@contextmanager
def changing(server: Gunicorn) -> Iterator["Changes"]:
    """Changes come from a process apart from the server, on the same database."""
    with ExitStack() as stack:
        changer = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", CHANGER, KEY, USER],
                cwd=ROOT,
                env=server.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(changer.terminate)
        connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(CONNECTIONS)]
        for connection in connections:
            stack.callback(connection.close)
        changes = Changes(server, changer, connections)
        changes.answer()
        yield changes


class Changes:
    def __init__(
        self, server: Gunicorn, changer: "subprocess.Popen[str]", connections: list[http.client.HTTPConnection]
    ) -> None:
        self._server = server
        self._changer = changer
        self._connections = connections

    def answer(self) -> str:
        assert self._changer.stdout
        return self._changer.stdout.readline().strip()

    def change(self, way: str) -> None:
        assert self._changer.stdin
        self._changer.stdin.write(way + "\n")
        self._changer.stdin.flush()
        answered = self.answer()
        assert answered not in ("", "400", "403", "404", "500"), (way, answered)

    def seconds_until(self, value: bool) -> float:
        """From now until each connection has been answered with `value`; after that none may see the old one again."""
        began = time.monotonic()
        waiting = list(self._connections)
        while waiting:
            waiting = [connection for connection in waiting if self._value(connection) is not value]
            if time.monotonic() - began > 10:
                raise AssertionError(f"{len(waiting)} of {CONNECTIONS} connections still see the old value")
        taken = time.monotonic() - began
        assert all(self._value(connection) is value for connection in self._connections), "an old value came back"
        return taken

    def _value(self, connection: http.client.HTTPConnection) -> bool:
        connection.request("GET", "/flags", headers={"Authorization": f"Bearer {self._server.token}"})
        value = json.loads(connection.getresponse().read())[KEY]
        assert isinstance(value, bool)
        return value
