"""System checks of the project: each by its id, and clean where it should be."""

from typing import Any

import pytest
from django.core.checks import run_checks

from tests.onesource.boot import PRODUCTION, boot

CHECK_DEPLOY = (
    "import sys; from django.core.management import execute_from_command_line as run; "
    "run(['manage.py', 'check', '--deploy', '--fail-level', 'WARNING'])"
)


def ids() -> set[str]:
    return {str(message.id) for message in run_checks(include_deployment_checks=True)}


@pytest.fixture
def production(settings: Any) -> Any:
    settings.PRODUCTION = True
    settings.ALLOWED_HOSTS = ["onesource.example"]
    settings.DEBUG = False
    return settings


def test_w001_outside_production(settings: Any, production: Any) -> None:
    assert "onesource.W001" not in ids()
    settings.PRODUCTION = False
    assert "onesource.W001" in ids()


@pytest.mark.parametrize(("engine", "warned"), [("sqlite3", True), ("postgresql", False)])
def test_w002_for_sqlite_in_production(
    production: Any, monkeypatch: pytest.MonkeyPatch, engine: str, warned: bool
) -> None:
    monkeypatch.setitem(production.DATABASES["default"], "ENGINE", f"django.db.backends.{engine}")
    assert ("onesource.W002" in ids()) is warned


def test_e001_without_hosts_in_production(production: Any) -> None:
    assert "onesource.E001" not in ids()
    production.ALLOWED_HOSTS = []
    assert "onesource.E001" in ids()


def test_e002_for_debug_in_production(production: Any) -> None:
    assert "onesource.E002" not in ids()
    production.DEBUG = True
    assert "onesource.E002" in ids()


def test_development_has_no_errors(db: None) -> None:
    assert [message for message in run_checks() if message.level >= 30] == []


def test_a_production_as_documented_passes_the_deployment_checks(tmp_path: Any) -> None:
    booted = boot(CHECK_DEPLOY, tmp_path, **PRODUCTION)
    assert booted.returncode == 0, booted.stderr


def test_a_production_that_is_misconfigured_fails_the_deployment_checks(tmp_path: Any) -> None:
    booted = boot(CHECK_DEPLOY, tmp_path, **PRODUCTION | {"DATABASE_URL": "", "ALLOWED_HOSTS": "", "DEBUG": "1"})
    assert booted.returncode != 0
    assert [
        found for found in ("onesource.W002", "onesource.E001", "onesource.E002") if found not in booted.stderr
    ] == []
