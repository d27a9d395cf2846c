"""What gunicorn's configuration prints for people, and that a worker is warm before it accepts."""

import json
import runpy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.environment import ROOT
from tests.services.gunicorn import Gunicorn, shell

FIRST_TURN = """
import json, runpy, sys, types
from django.core.management import call_command
from django.test import Client
from onesource.wsgi import application
call_command("check", stdout=sys.stderr)
worker = types.SimpleNamespace(records_configuration=False)
runpy.run_path("deploy/gunicorn.conf.py")["post_worker_init"](worker)
before = {*sys.modules}
client = Client(headers={"Authorization": f"Bearer {sys.stdin.read()}", "Host": "127.0.0.1"})
status = client.post("/chat", {"question": "How high must a handrail be?"}, content_type="application/json").status_code
imported = {name.partition(".")[0] for name in {*sys.modules} - before}
print(json.dumps([status, sorted(imported - {"django"})]))
"""

# What a full collection goes through in a worker that has started, and after it has read the knowledge base anew.
COLLECTED = """
import gc, json, uuid
from knowledge import index
from knowledge.models import IndexVersion
from ops.warming import worker_warm
worker_warm()
kept, first = gc.get_freeze_count(), len(gc.get_objects())
IndexVersion.objects.update(stamp=uuid.uuid4())
index._matcher.cache_clear()
before = index.snapshot_current()
index.snapshot_forget()
after = index.snapshot_current()
assert before.matcher is not after.matcher
print(json.dumps([kept, first, len(gc.get_objects())]))
"""


@pytest.mark.parametrize(("listener", "address"), [
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"), ("http://0.0.0.0:8001", "http://127.0.0.1:8001/"),
])  # fmt: skip
def test_in_development_a_plain_line_says_that_it_is_ready(
    capsys: pytest.CaptureFixture[str], listener: str, address: str
) -> None:
    configuration = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    configuration["when_ready"](SimpleNamespace(LISTENERS=[listener]))
    assert f"Ready: {address}" in capsys.readouterr().out.splitlines()


def test_in_production_all_lines_are_json(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    settings.PRODUCTION = True
    configuration = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    configuration["when_ready"](SimpleNamespace(LISTENERS=["http://127.0.0.1:8000"]))
    assert capsys.readouterr().out == ""


def test_the_first_turn_of_a_worker_imports_no_library(gunicorn_server: Callable[..., Gunicorn]) -> None:
    """PyMongo and its like took it half a second, and all that came at the same time waited as well."""
    server = gunicorn_server()
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "MONGO_URL": "mongodb://127.0.0.1:1/x", "LOG_LEVEL": "ERROR"}
    openai = {"LLM_PROVIDER": "openai", "LLM_BASE_URL": "http://127.0.0.1:1", "LLM_MODEL": "none"}
    status, imported = json.loads(shell(FIRST_TURN, server.env | away | openai, given=server.token))
    assert status == 200
    assert imported == []


def test_no_collection_of_a_worker_goes_through_the_knowledge_base(gunicorn_server: Callable[..., Gunicorn]) -> None:
    """It would take a fifth of a second, in which no thread of the worker answers."""
    kept, first, again = json.loads(shell(COLLECTED, gunicorn_server().env | {"LOG_LEVEL": "ERROR"}))
    assert kept > 200_000
    assert max(first, again) < kept / 20
