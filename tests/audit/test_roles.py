"""The role of deploy/postgresql/roles.sql runs the product, and cannot change what is on record."""

import json
import secrets
import subprocess
import sys

import psycopg
import pytest
from django.db import connection
from psycopg import errors, sql

from audit.triggers import TABLES
from tests.audit.test_triggers import COLUMN
from tests.environment import ROOT, clean_environment
from tests.services import postgres_bin

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has roles")


@pytest.fixture(scope="module")
def role_url(postgres_server, tmp_path_factory):
    """A migrated database, as the product's role reaches it."""
    owner_url = postgres_server.database_create()
    name, password = f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
    var = tmp_path_factory.mktemp("var")
    manage(owner_url, var, "migrate", "-v0")
    manage(owner_url, var, "knowledge", "load-pack")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
    for _ in range(2):
        psql(owner_url, "-v", f"app={name}", "-f", "deploy/postgresql/roles.sql")
    url = owner_url.replace(owner_url.split("//")[1].split("@")[0], f"{name}:{password}")
    assert "sealed" in manage(url, var, "audit", "seal")
    return url, var


def psql(url, *arguments):
    directory = postgres_bin()
    assert directory
    command = [str(directory / "psql"), url, "-v", "ON_ERROR_STOP=1", *arguments]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True, capture_output=True, timeout=60)


def manage(url, var, *arguments):
    env = clean_environment() | {"DATABASE_URL": url, "VAR_DIR": str(var), "LOG_LEVEL": "ERROR"}
    env["DATABASE_TIMEOUT_MS"] = "60000"
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_role_answers_records_seals_and_verifies(role_url):
    url, var = role_url
    assert "D3D22" in manage(url, var, "ask", "How high must a handrail be?")
    manage(url, var, "audit", "seal")
    assert "Deleted the texts of 0 turns" in manage(url, var, "audit", "purge")
    make = "from datetime import timedelta; from audit.partitions import partitions_make as make; "
    assert "date" in manage(url, var, "shell", "-v0", "-c", make + "print(make(retention=timedelta(days=50)))")
    report = json.loads(manage(url, var, "audit", "verify", "--json"))
    assert report["ok"]
    assert report["events"] > 1


@pytest.mark.parametrize("table", TABLES)
def test_the_role_changes_nothing_of_the_trail(role_url, table):
    with psycopg.connect(role_url[0], autocommit=True) as session:
        for statement in (
            f"UPDATE {table} SET {COLUMN[table]} = {COLUMN[table]}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"ALTER TABLE {table} DISABLE TRIGGER {table}_no_change",
            f"DROP TRIGGER {table}_no_change ON {table}",
            f"DROP TABLE {table}",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement)
