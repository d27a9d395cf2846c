"""The services of the tests start, answer, stop, and leave neither process nor directory behind."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from redis import Redis

from flags import snapshot
from flags.models import Setting
from flags.services import Pinned
from knowledge.models import Passage
from tests import environment, run, services
from tests.environment import ROOT, clean_environment, product_variables
from tests.services import need
from tests.services.gunicorn import children
from tests.services.mongo import mongo_start
from tests.services.postgres import postgres_start
from tests.services.process import RUNNING, ServiceFailed, accepts, free_port, process_start, service_directory
from tests.services.redis import cluster_start, redis_start, sentinel_start


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def eventually(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


# Processes


def sleeper(name="sleeper", code="import time; time.sleep(60)"):
    return process_start(name, [sys.executable, "-c", code], directory=service_directory(name))


def test_stop_leaves_no_process_and_no_directory():
    process = sleeper()
    assert process in RUNNING
    process.stop()
    assert gone(process.pid)
    assert not process.directory.exists()
    assert process not in RUNNING


def test_stop_is_by_force_when_asking_does_not_help():
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = sleeper(code=code)
    assert eventually(lambda: "deaf" in process.output())
    process.stop(seconds=0.2)
    assert process.popen.returncode == -signal.SIGKILL


def test_a_stopped_process_is_woken_to_stop():
    process = sleeper()
    process.popen.send_signal(signal.SIGSTOP)
    process.stop(seconds=5)
    assert process.popen.returncode == -signal.SIGTERM


def test_a_service_that_ends_at_once_tells_what_it_printed():
    process = sleeper(code="import sys; sys.exit('the port is taken')")
    with pytest.raises(ServiceFailed, match=r"ended with 1 before it was ready(.|\n)*the port is taken"):
        process.wait_ready(lambda: False, seconds=10)


def test_a_service_that_never_answers_is_stopped():
    process = sleeper()
    with pytest.raises(ServiceFailed, match=r"was not ready after 0\.1 s"):
        process.wait_ready(lambda: False, seconds=0.1)
    assert gone(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_services_end_with_the_tests_that_started_them():
    code = textwrap.dedent(
        """
        import sys, time
        from tests.services.process import process_start, service_directory
        started = process_start("orphan", [sys.executable, "-c", "import time; time.sleep(60)"],
                                directory=service_directory("orphan"))
        time.sleep(0.3)
        print(started.pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert eventually(lambda: gone(pid))


def test_a_free_port_can_be_bound_and_differs():
    ports = {free_port() for _ in range(5)}
    assert len(ports) > 1
    assert not any(accepts(port) for port in ports)


# Redis and PostgreSQL


def test_redis_starts_answers_and_stops():
    need("redis")
    server = redis_start()
    with Redis.from_url(server.url) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"
        server.flush()
        assert client.get("key") is None
    server.stop()
    assert gone(server.process.pid)
    assert not accepts(server.port)
    assert not server.process.directory.exists()


def test_postgres_starts_answers_and_stops():
    need("postgres")
    server = postgres_start()
    url = server.database_create()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_setting('fsync'), current_user").fetchone() == ("off", "tests")
    backends = children(server.process.pid)
    assert backends
    server.stop()
    assert all(gone(pid) for pid in (server.process.pid, *backends))
    assert not server.process.directory.exists()


def test_postgres_lets_nobody_in_without_the_password(postgres_server):
    url = postgres_server.url().replace(postgres_server.password, "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url, connect_timeout=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
def test_postgres_does_not_run_as_root(postgres_server):
    assert Path(f"/proc/{postgres_server.process.pid}").stat().st_uid != 0


def test_the_second_round_is_on_postgres():
    on_postgres = environment.DATABASE_VARIABLE in os.environ
    assert settings.DATABASES["default"]["ENGINE"].endswith("postgresql" if on_postgres else "sqlite3")


# What happens without them


def test_a_service_that_is_not_there_skips(monkeypatch):
    monkeypatch.setattr(services, "available", lambda service: False)
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs redis, which is not installed"):
        need("redis")


def test_a_service_that_is_not_there_fails_when_required(monkeypatch):
    monkeypatch.setattr(services, "available", lambda service: False)
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="needs postgres, which is not installed, and REQUIRE_SERVICES"):
        need("postgres")


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_the_end_of_a_run_says_what_was_not_run(monkeypatch, capsys, required, code):
    monkeypatch.setattr(run, "available", lambda service: service != "redis")
    monkeypatch.setenv("REQUIRE_SERVICES", required)
    reason = "Skipped: needs redis, which is not installed"
    outcome = run.Outcome("SQLite", 0, 1.5, passed=3, skipped=1, skips=[("tests/test_x.py::test_y", reason)])
    assert run.conclude([outcome], []) == code
    printed = capsys.readouterr().out
    assert "redis is not installed: 1 tests did not run:\n  tests/test_x.py::test_y\n" in printed
    assert "apt-get install redis-server" in printed
    assert printed.endswith("3 passed, 0 failed, 1 skipped\n")


def test_without_go_the_end_of_a_run_says_what_mongo_needs(monkeypatch, capsys):
    monkeypatch.setattr(run, "available", lambda service: service != "mongo")
    assert run.conclude([run.Outcome("SQLite", 0, 1.5, passed=3)], []) == int(services.required())
    assert "To run them: Go 1.24 and a Go module proxy, or MONGO_TEST_URL" in capsys.readouterr().out


def build(tmp_path, **env):
    """What tests/services/ferretdb/build.sh says with an empty cache."""
    return subprocess.run(
        ["bash", str(services.BUILD_SCRIPT)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_go_that_is_too_old_is_said_to_be(tmp_path):
    (tmp_path / "go").write_text("#!/bin/sh\necho go1.19.8\n")
    (tmp_path / "go").chmod(0o755)
    done = build(tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (3, "go1.19.8 is too old: FerretDB needs Go 1.24\n")


def test_a_build_that_fails_is_told_and_the_run_goes_on(capsys):
    failing = ["sh", "-c", "echo no such module >&2; exit 1"]
    run.build_wait(subprocess.Popen(failing, stderr=subprocess.PIPE, text=True, start_new_session=True))
    assert capsys.readouterr().out == "FerretDB could not be built; going on without.\nno such module\n\n"


def test_a_build_that_takes_too_long_is_ended_with_all_it_started(monkeypatch, capsys):
    monkeypatch.setattr(run, "BUILD_SECONDS", 0.2)
    building = subprocess.Popen(
        ["sh", "-c", "sleep 60 & sleep 60"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    run.build_wait(building)
    assert gone(building.pid)
    assert "was not built" in capsys.readouterr().out


def test_what_was_built_is_not_built_again(tmp_path):
    where = subprocess.run(
        ["bash", str(services.BUILD_SCRIPT), "--where"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(where).parent.mkdir(parents=True)
    Path(where).touch(mode=0o755)
    (tmp_path / "go").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "go").chmod(0o755)
    done = build(tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (done.returncode, done.stdout.strip()) == (0, where)


def test_a_round_that_failed_or_lacks_coverage_fails_the_run(monkeypatch, capsys):
    monkeypatch.setattr(run, "available", lambda service: True)
    assert run.conclude([run.Outcome("SQLite", 1, 1.0, failed=1)], []) == 1
    assert run.conclude([run.Outcome("SQLite", 0, 1.0, passed=1)], ["chat is covered to 80.0 %"]) == 1
    assert "FAILED: chat is covered to 80.0 %." in capsys.readouterr().out


# The environment and the state of the process


def test_the_products_variables_are_found_in_its_source():
    found = product_variables()
    assert {"USE_UNIFIED_PIPELINE", "REDIS_URL", "DATABASE_URL", "LLM_API_KEY", "LLM_API_KEY_FILE", "VAR_DIR"} <= found
    assert {"WEB_WORKERS", "SECRET_KEY", "HOST", "DEBUG", "DJANGO_SETTINGS_MODULE"} <= found
    assert not {"PATH", "HOME", "LANG"} & found


def test_the_callers_variables_do_not_reach_the_tests():
    given = {"PATH": "/bin", "REDIS_URL": "redis://caller", "PGHOST": "caller", "USE_UNIFIED_PIPELINE": "0"}
    assert clean_environment(given) == {"PATH": "/bin"}


def test_a_pytest_of_its_own_is_clean_too(tmp_path):
    """As when a developer runs pytest with the product configured in the shell."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(
        "import os\n"
        "def test_probe():\n"
        "    from django.conf import settings\n"
        f"    assert str(settings.VAR_DIR) != {str(tmp_path)!r}\n"
        "    assert (settings.REDIS_URL, settings.LLM_PROVIDER) == ('', 'extractive')\n"
        "    assert 'USE_UNIFIED_PIPELINE' not in os.environ\n"
    )
    caller = {"REDIS_URL": "redis://127.0.0.1:1/0", "USE_UNIFIED_PIPELINE": "maybe", "VAR_DIR": str(tmp_path)}
    caller |= {"LLM_PROVIDER": "nobody", "DJANGO_SETTINGS_MODULE": "nothing.here"}
    # Ended half way it could not remove a directory of its own making.
    (tmp_path / "base").mkdir()
    caller[environment.BASE_VARIABLE] = str(tmp_path / "base")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TEST_", "COV"))}
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    done = subprocess.run(
        [*command, str(probe)], cwd=ROOT, env=env | caller, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_var_belongs_to_this_worker():
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    assert environment.base_directory() / worker == settings.VAR_DIR
    assert ROOT not in settings.VAR_DIR.parents


def test_flag_is_in_force_at_once_and_on_record(flag):
    flag("CONV_MAX_TURNS", 3)
    assert snapshot.current().number("CONV_MAX_TURNS") == 3
    assert Setting.objects.get(key="CONV_MAX_TURNS").value_json == 3


def test_override_pins_holds_against_the_database(flag, override_pins):
    override_pins(LLM_TIMEOUT_MS=500)
    assert snapshot.current().number("LLM_TIMEOUT_MS") == 500
    with pytest.raises(Pinned):
        flag("LLM_TIMEOUT_MS", 900)


def test_no_flag_and_no_pin_is_left_of_another_test(db):
    assert snapshot.pins() == {}
    assert snapshot.current().number("CONV_MAX_TURNS") == 16


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time_round", [1, 2])
def test_the_database_is_whole_again_after_a_transactional_test(time_round):
    assert Passage.objects.count() > 100
    assert set(Group.objects.values_list("name", flat=True)) == {"compliance reviewers", "flag managers", "operators"}
    Passage.objects.all().delete()
    Group.objects.all().delete()


def test_the_pack_is_there(db):
    assert Passage.objects.count() > 100


# The cast


def test_the_cast_has_real_tokens_and_its_groups(owner, stranger, reviewer, flag_manager, operator, admin):
    for member in (owner, stranger, reviewer, flag_manager, operator, admin):
        assert member.get("/chat/sessions").status_code == 200
    assert reviewer.user.has_perm("audit.reveal_content")
    assert flag_manager.user.has_perm("flags.change_flag")
    assert operator.user.has_perm("ops.operate")
    assert not owner.user.get_all_permissions()
    assert admin.browser.get("/admin/").status_code == 200


def test_post_json_asks_as_the_member(owner, stranger):
    answered = owner.post_json("/chat", {"question": "How high must a handrail be?"}, Idempotency_Key="one")
    assert answered.status_code == 200
    path = f"/chat/sessions/{answered.json()['meta']['session_id']}"
    assert (owner.get(path).status_code, stranger.get(path).status_code) == (200, 404)


def test_this_process_can_ask_the_model_server(owner, openai_configured):
    answered = owner.post_json("/chat", {"question": "How high must a handrail be?"})
    assert answered.json()["meta"]["provider"] == "openai"
    assert openai_configured.requests[0].headers["authorization"].startswith("Bearer sk-test")


@pytest.mark.django_db(transaction=True)
def test_this_process_can_keep_conversations_in_redis(redis_configured, owner):
    session = str(uuid.uuid4())
    assert owner.post_json("/chat", {"question": "Hello?", "session_id": session}).status_code == 200
    with Redis.from_url(redis_configured.url) as client:
        assert client.zcard(f"onesource:conv:{{{session}}}") == 2


@pytest.mark.django_db(transaction=True)
def test_this_process_can_keep_conversations_in_mongo(mongo_configured, owner):
    session = str(uuid.uuid4())
    assert owner.post_json("/chat", {"question": "Hello?", "session_id": session}).status_code == 200
    assert {row["session_id"] for row in mongo_configured.messages()} == {session}
    assert sorted(row["seq"] for row in mongo_configured.messages()) == [1, 2]


def test_mongo_starts_answers_comes_back_and_stops():
    need("mongo")
    server = mongo_start(mine=True)
    with server.client() as client:
        client.get_default_database()["kept"].insert_one({"_id": 1})
        server.kill()
        server.restart()
        assert client.get_default_database()["kept"].count_documents({}) == 1
    pid = server.process.pid
    server.stop()
    assert gone(pid)


def test_a_named_mongo_is_used_with_a_database_of_its_own(monkeypatch):
    monkeypatch.setenv(services.MONGO_VARIABLE, "mongodb://user:word@db.example:27018/admin?authSource=admin")
    url = mongo_start().url
    assert re.fullmatch(r"mongodb://user:word@db\.example:27018/test_[0-9a-f]{12}\?authSource=admin", url)


def test_a_cluster_has_three_nodes_and_all_slots():
    need("redis")
    cluster = cluster_start()
    with cluster.servers[2].client() as client:
        told = client.execute_command("CLUSTER INFO")
    assert int(told["cluster_size"]) == 3
    pids = [server.process.pid for server in cluster.servers]
    cluster.stop()
    assert all(gone(pid) for pid in pids)


def test_sentinels_name_the_primary():
    need("redis")
    group = sentinel_start()
    assert group.primary() is group.servers[0]
    pids = [server.process.pid for server in (*group.servers, *group.sentinels)]
    group.stop()
    assert all(gone(pid) for pid in pids)


# gunicorn


def test_gunicorn_serves_the_real_application(gunicorn_server):
    server = gunicorn_server()
    answered = server.post_json("/chat/enhanced", {"question": "How high must a handrail be?"})
    assert answered.status == 200
    assert answered.json()["meta"]["turn"] == 1
    assert server.get("/chat/sessions", token=server.token_for("somebody")).json()["results"] == []
    assert b"onesource_turns_total" in server.get("/metrics").body
    assert gunicorn_server() is server


def test_gunicorn_starts_another_worker_for_a_killed_one(gunicorn_server):
    server = gunicorn_server(fresh=True)
    killed = server.kill()
    server.wait_workers(without=killed)
    assert gone(killed)
    assert len(server.worker_pids()) == 2


def test_gunicorn_leaves_nothing(gunicorn_server):
    server = gunicorn_server({"LOG_LEVEL": "DEBUG"}, workers=1, fresh=True)
    pids = [server.process.pid, *server.worker_pids()]
    assert server.get("/version").status == 200
    server.stop()
    assert all(gone(pid) for pid in pids)
    assert not server.var.exists()


def test_gunicorn_on_postgres_asking_the_model_server(gunicorn_server, postgres_server, model_server):
    env = {"LLM_PROVIDER": "openai", "LLM_BASE_URL": model_server.url, "LLM_MODEL": "m"}
    url = postgres_server.database_create()
    server = gunicorn_server(env, workers=1, database_url=url, fresh=True)
    assert server.post_json("/chat", {"question": "How high?"}).json()["meta"]["provider"] == "openai"
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT convert_from(body, 'UTF8') FROM audit_event WHERE kind LIKE 'turn%'"
        ).fetchone()
    assert json.loads(row[0])["kind"] == "turn.completed"
    server.stop()
