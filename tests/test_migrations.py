"""Migrations: none is missing, none conflicts, and what they did to data they can take back."""

from collections.abc import Iterator
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection
from django.db.migrations import Migration, RunPython, RunSQL
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

OURS = ("onesource", "audit", "flags", "knowledge", "chat", "review", "ops")
GROUPS = {"flag managers", "compliance reviewers", "operators"}


def ours() -> list[Migration]:
    loader = MigrationLoader(None)
    return [migration for (app, _), migration in sorted(loader.disk_migrations.items()) if app in OURS]


def test_every_model_is_migrated(db: None) -> None:
    out = StringIO()
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=1, stdout=out)
    assert "No changes detected" in out.getvalue()


def test_no_two_migrations_are_the_last(db: None) -> None:
    assert MigrationLoader(connection).detect_conflicts() == {}


def test_the_database_of_the_tests_has_them_all(db: None) -> None:
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []


def test_every_app_with_models_has_migrations() -> None:
    with_models = {config.label for config in apps.get_app_configs() if config.label in OURS and config.models}
    assert with_models == {migration.app_label for migration in ours()}


@pytest.mark.parametrize("migration", ours(), ids=str)
def test_a_data_migration_can_be_taken_back(migration: Migration) -> None:
    written = [operation for operation in migration.operations if isinstance(operation, (RunPython, RunSQL))]
    assert [operation for operation in written if not operation.reversible] == []


# The groups, there and back

BEFORE, AFTER = ("ops", "0001_initial"), ("ops", "0002_groups")


def migrate(target: tuple[str, str]) -> None:
    call_command("migrate", *target, verbosity=0)


@pytest.fixture
def taken_back(transactional_db: None) -> Iterator[None]:
    migrate(BEFORE)
    yield
    call_command("migrate", "ops", verbosity=0)


def test_taking_the_groups_back_leaves_none(taken_back: None) -> None:
    assert not Group.objects.filter(name__in=GROUPS).exists()
    assert AFTER not in MigrationLoader(connection).applied_migrations


def test_taking_the_groups_back_leaves_a_group_that_people_made(transactional_db: None) -> None:
    Group.objects.create(name="our own")
    migrate(BEFORE)
    try:
        assert Group.objects.filter(name="our own").exists()
    finally:
        call_command("migrate", "ops", verbosity=0)


def test_the_groups_come_again_with_all_they_may_do(taken_back: None) -> None:
    migrate(AFTER)
    counts = {group.name: group.permissions.count() for group in Group.objects.filter(name__in=GROUPS)}
    assert counts == {"flag managers": 6, "compliance reviewers": 6, "operators": 4}
