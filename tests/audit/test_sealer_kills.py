import json
import subprocess
import sys

from django.db import connection

from tests.environment import ROOT, clean_environment

ROUNDS = 50


def test_fifty_killed_sealers_and_their_writers_leave_one_whole_log(tmp_path, request):
    """No event without a leaf, no checkpoint elsewhere that the log does not lead to, and nothing written is lost."""
    env = clean_environment() | {"VAR_DIR": str(tmp_path), "LOG_LEVEL": "ERROR"}
    env["AUDIT_CHECKPOINT_DIR"] = str(tmp_path / "published")
    (tmp_path / "published").mkdir()
    if connection.vendor == "postgresql":
        env["DATABASE_URL"] = request.getfixturevalue("postgres_server").database_create()
        env["DATABASE_TIMEOUT_MS"] = "60000"
    command = [sys.executable, "-m", "tests.audit.sealer_kills", str(ROUNDS)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    left = json.loads(done.stdout.splitlines()[-1])
    assert left["findings"] == []
    assert left["sealer"] == ROUNDS
    assert left["writer"] == ROUNDS // 2
    assert left["leaves"] == left["events"] > left["written"] >= 2 * ROUNDS
    assert left["checkpoints"] >= left["published"] > ROUNDS // 2
