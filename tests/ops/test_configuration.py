"""What a process was started with is on record, complete and without a secret, also when the database came late."""

import hashlib
import json
import runpy
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from audit.canonical import canonical_json
from audit.models import Event
from flags.registry import REGISTRY
from ops import configuration
from ops.configuration import IN_ENVIRONMENT, IN_PART, IN_SETTINGS, configuration_facts, configuration_record
from tests.environment import ROOT
from tests.test_docs import documented, secrets

SECRETS = {
    "REDIS_URL": "redis://user:planted-redis@host:6379/0",
    "MONGO_URL": "mongodb://user:planted-mongo@host/name",
    "LLM_API_KEY": "planted-key",
    "LLM_BASE_URL": "https://user:planted-base@model.example:8443/v1?key=planted-query",
    "AUDIT_CHECKPOINT_WEBHOOK": "https://user:planted-hook@hook.example/planted-path",
    "CONTENT_KEYS": "k2:cGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZDEyMzQ=,k1:bGFudGVkcGxhbnRlZHBsYW50ZWRwbGFudGVkMTIzNDU=",
    "SECRET_KEY": "planted-secret-key",
}


def recorded() -> list[dict[str, Any]]:
    rows = Event.objects.filter(kind="configuration.loaded").order_by("pk")
    return [json.loads(bytes(row.body))["facts"] for row in rows]


def wait(until: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_every_documented_variable_is_told_or_is_a_secret_or_a_flag() -> None:
    told = {*IN_SETTINGS, *IN_ENVIRONMENT, *IN_PART}
    assert documented() == told | secrets() | set(REGISTRY)
    assert not told & secrets() - set(IN_PART)


def test_secrets_are_never_told(settings: Any) -> None:
    for name, value in SECRETS.items():
        setattr(settings, name, value)
    facts = configuration_facts("web")
    text = json.dumps(facts)
    assert "planted" not in text
    assert not any(part in text for part in SECRETS["CONTENT_KEYS"].replace(",", ":").split(":")[1::2])
    assert facts["content_keys"] == ["k2", "k1"]
    assert facts["stores"] == {"redis": True, "mongo": True}
    assert facts["webhook_origin"] == "https://hook.example"
    assert facts["llm_origin"] == "https://model.example:8443"


def test_pins_and_settings_are_told(override_pins: Callable[..., None], settings: Any) -> None:
    override_pins(SCHEMA_REPAIR_RATE_ALERT=0.25, CONV_DUAL_WRITE=True)
    settings.LLM_PROVIDER = "openai"
    facts = configuration_facts("worker")
    assert facts["pins"] == {"SCHEMA_REPAIR_RATE_ALERT": "0.25", "CONV_DUAL_WRITE": True}
    assert (facts["process"], facts["settings"]["LLM_PROVIDER"]) == ("worker", "openai")
    assert facts["database"] == connection.vendor


def test_the_hash_is_of_all_the_others(settings: Any) -> None:
    facts = configuration_facts("web")
    body = canonical_json({name: value for name, value in facts.items() if name != "hash"})
    assert facts["hash"] == hashlib.sha256(body).hexdigest() == configuration_facts("web")["hash"]
    settings.TOKEN_DAYS += 1
    assert configuration_facts("web")["hash"] != facts["hash"]


def test_it_is_an_event(db: None) -> None:
    configuration_record("web")
    (facts,) = recorded()
    assert facts == configuration_facts("web")


def test_a_database_that_is_away_is_asked_again(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(configuration, "RETRY_SECONDS", 0.1)
    table = connection.ops.quote_name("audit_stream")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO away")
    try:
        thread = configuration.configuration_record_start("web")
        wait(lambda: "configuration.unrecorded" in caplog.text)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE away RENAME TO {table}")
    thread.join(20)
    assert [facts["process"] for facts in recorded()] == ["web"]


def test_the_worker_records_its_start(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.worker import Worker

    # Until it is told to stop; here until its configuration is on record.
    monkeypatch.setattr(Worker, "run", lambda self: wait(recorded))
    call_command("worker")
    assert [facts["process"] for facts in recorded()] == ["worker"]


def test_one_worker_of_a_start_records_and_again_after_a_reload() -> None:
    hooks = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    server = SimpleNamespace()

    def forked() -> bool:
        worker = SimpleNamespace()
        hooks["pre_fork"](server, worker)
        return bool(worker.records_configuration)

    assert [forked(), forked(), forked()] == [True, False, False]
    hooks["on_reload"](server)
    assert [forked(), forked()] == [True, False]


READ = """
import json
from audit.models import Event
rows = Event.objects.filter(kind="configuration.loaded").order_by("pk")
print(json.dumps([json.loads(bytes(row.body))["facts"] for row in rows]))
"""


def test_a_real_server_records_one_start(gunicorn_server: Callable[..., Any]) -> None:
    server = gunicorn_server(workers=2)
    wait(lambda: json.loads(server.shell(READ)))
    (facts,) = json.loads(server.shell(READ))
    assert (facts["process"], facts["database"], facts["settings"]["WEB_WORKERS"]) == ("web", "sqlite", "2")
    assert facts["settings"]["PORT"] == server.port
