"""What stops a process from starting, and what it says then."""

import json
import stat
from pathlib import Path

import pytest

from tests.onesource.boot import APPLICATION, KEY, PRODUCTION, SECRETS, SETTINGS, boot, boot_start, without

NAMES = ("SECRET_KEY", "CONTENT_KEYS", "AUDIT_SIGNING_KEY")
PRINT_SECRETS = (
    "import json; from onesource import settings as s; "
    f"print(json.dumps({{name: getattr(s, name) for name in {NAMES}}}))"
)


@pytest.mark.parametrize("name", NAMES)
def test_production_refuses_to_start_without_a_secret_and_names_it(tmp_path: Path, name: str) -> None:
    booted = boot(SETTINGS, tmp_path, **without(PRODUCTION, name))
    assert booted.returncode != 0
    assert f"EnvError: Environment variable {name}: is required in production" in booted.stderr
    assert not any(value in booted.stderr for value in SECRETS.values())
    assert not (tmp_path / "secrets").exists()


def test_production_starts_with_its_secrets(tmp_path: Path) -> None:
    booted = boot(PRINT_SECRETS, tmp_path, **PRODUCTION)
    assert json.loads(booted.stdout) == SECRETS


def test_production_takes_its_secrets_from_files(tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n", encoding="ascii")
    files = {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}
    booted = boot(PRINT_SECRETS, tmp_path / "var", **without(PRODUCTION, *SECRETS), **files)
    assert json.loads(booted.stdout) == SECRETS


@pytest.mark.parametrize("name", [*NAMES, "LLM_API_KEY"])
def test_a_secret_that_is_set_in_both_ways_stops_the_boot(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("planted", encoding="ascii")
    booted = boot(SETTINGS, tmp_path / "var", **{name: "planted", f"{name}_FILE": str(tmp_path / "file")})
    assert booted.returncode != 0
    assert f"set either {name} or {name}_FILE, not both" in booted.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "staging"),
        ("DEBUG", "perhaps"),
        ("RELEASE_TRACK", "beta"),
        ("PORT", "0"),
        ("PORT", "eighty"),
        ("TRUST_X_FORWARDED_PROTO", "https"),
        ("DATABASE_URL", "mysql://user:planted@host/name"),
        ("DATABASE_URL", "postgres://user:planted@host:port/name"),
        ("DATABASE_URL", "postgres://user:planted@[host/name"),
        ("DATABASE_TIMEOUT_MS", "99"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://:planted@[host"),
        ("REDIS_URL", "redis://host:planted"),
        ("REDIS_URL", "redis+cluster://:planted@host:6379,"),
        ("REDIS_URL", "redis+cluster://:planted@host:6379/1"),
        ("REDIS_URL", "redis+sentinel://:planted@host:26379"),
        ("REDIS_URL", "redis+sentinel://:planted@host:26379/mymaster/zero"),
        ("REDIS_URL", "redis+sentinel://host:26379/mymaster?password=planted"),
        ("MONGO_URL", "host:27017"),
        ("MONGO_URL", "mongodb://user:planted@"),
        ("MONGO_URL", "mongodb://user:planted@host:port/name"),
        ("MONGO_URL", "mongodb://user:planted@host/a/b"),
        ("MONGO_TIMEOUT_MS", "0"),
        ("METRICS_ALLOWED_NETWORKS", "127.0.0.0/8,office"),
        ("REDIS_SOCKET_TIMEOUT_MS", "5"),
        ("REDIS_CONNECT_TIMEOUT_MS", "soon"),
        ("TOKEN_DAYS", "0"),
        ("LLM_PROVIDER", "oracle"),
        ("LLM_BASE_URL", "model.example"),
        ("LLM_BASE_URL", "http://[model"),
        ("WEB_THREADS", "1"),
        ("CHAT_CONCURRENCY", "-1"),
        ("LLM_CONTEXT_TOKENS", "999"),
        ("LLM_MAX_TOKENS", "many"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_value_that_does_not_parse_stops_the_boot_and_names_its_variable(
    tmp_path: Path, name: str, value: str
) -> None:
    booted = boot(SETTINGS, tmp_path, **{name: value})
    assert booted.returncode != 0
    assert f"EnvError: Environment variable {name}: " in booted.stderr
    assert "planted" not in booted.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONTENT_KEYS", "planted"),
        ("CONTENT_KEYS", f"first:{KEY},first:{KEY}"),
        ("CONTENT_KEYS", "first:\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("AUDIT_SIGNING_KEY", "planted"),
        ("AUDIT_VERIFY_KEYS", "garbage"),
        ("AUDIT_LOG_ORIGIN", "plan ted"),
        ("USE_UNIFIED_PIPELINE", "maybe"),
        ("CONV_STORE_PRIMARY", "cassandra"),
        ("CONV_MAX_TURNS", "-1"),
        ("SCHEMA_REPAIR_RATE_ALERT", "nan"),
    ],
)
def test_a_value_that_the_application_cannot_use_stops_its_boot(tmp_path: Path, name: str, value: str) -> None:
    booted = boot(APPLICATION, tmp_path, **{name: value})
    assert booted.returncode != 0
    assert f"EnvError: Environment variable {name}: " in booted.stderr
    assert "planted" not in booted.stderr


def test_development_starts_from_nothing_and_keeps_its_secrets(tmp_path: Path) -> None:
    first, second = (boot(PRINT_SECRETS, tmp_path) for _ in range(2))
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert all(json.loads(first.stdout).values())


def test_processes_that_boot_at_once_agree_on_the_secrets_they_make(tmp_path: Path) -> None:
    started = [boot_start(PRINT_SECRETS, tmp_path, {}) for _ in range(6)]
    printed = {process.communicate(timeout=60)[0] for process in started}
    assert len(printed) == 1
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()}
    assert files == dict.fromkeys(("secret_key", "content_keys", "audit_signing_key"), 0o600)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_production_turns_the_protections_on(tmp_path: Path) -> None:
    names = ("DEBUG", "ANONYMOUS_CHAT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT")
    code = f"import json; from onesource import settings as s; print(json.dumps([getattr(s, n) for n in {names}]))"
    booted = boot(code, tmp_path, **PRODUCTION)
    assert dict(zip(names, json.loads(booted.stdout), strict=True)) == {
        "DEBUG": False,
        "ANONYMOUS_CHAT": False,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SECURE_SSL_REDIRECT": True,
    }


def test_a_proxy_is_believed_only_when_told_so(tmp_path: Path) -> None:
    code = "from onesource import settings as s; print(getattr(s, 'SECURE_PROXY_SSL_HEADER', None))"
    assert boot(code, tmp_path).stdout.strip() == "None"
    trusting = boot(code, tmp_path, TRUST_X_FORWARDED_PROTO="1")
    assert trusting.stdout.strip() == "('HTTP_X_FORWARDED_PROTO', 'https')"


def test_a_gevent_worker_takes_more_turns_on_than_a_threaded_one(tmp_path: Path) -> None:
    code = "from onesource import settings as s; print(s.CHAT_CONCURRENCY)"
    assert boot(code, tmp_path, WEB_THREADS="8").stdout.strip() == "4"
    assert boot(code, tmp_path, WORKER_CLASS="gevent").stdout.strip() == "1000"


def test_a_commit_that_cannot_be_found_is_none(tmp_path: Path) -> None:
    code = "from onesource import settings as s; print(s.GIT_COMMIT)"
    assert boot(code, tmp_path, PATH=str(tmp_path)).stdout.strip() == "None"
    assert boot(code, tmp_path, GIT_COMMIT="abc123").stdout.strip() == "abc123"
