"""Legal holds, and on PostgreSQL the contents of turns in partitions, one a UTC day of their expiry."""

import re
from datetime import timedelta

import django.db.models.deletion
from django.db import migrations, models

TABLE = "turn_content"
BEFORE = "turn_content_before"


def content_partition(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT (expires_at AT TIME ZONE 'UTC')::date FROM {TABLE} ORDER BY 1")  # noqa: S608
        days = [day for (day,) in cursor.fetchall()]
        partitions = [f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT"]
        for day in days:
            bounds = f"FROM ('{day} 00:00:00+00') TO ('{day + timedelta(days=1)} 00:00:00+00')"
            partitions.append(f"CREATE TABLE {TABLE}_p{day:%Y%m%d} PARTITION OF {TABLE} FOR VALUES {bounds}")
        _remake(cursor, "PARTITION BY RANGE (expires_at)", partitions, "turn_id, expires_at")


def content_unite(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        _remake(cursor, "", [], "turn_id")


def _remake(cursor, partitioning, partitions, primary_key):
    # Rows written in this transaction are to be checked before their table may be altered.
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = %s "
        "AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
        [TABLE],
    )
    # Under the names that Django gave them, by which later migrations look for them.
    rest = [re.sub(r" ON ONLY ", " ON ", definition) for (definition,) in cursor.fetchall()]
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'",
        [TABLE],
    )
    rest += [f'ALTER TABLE {TABLE} ADD CONSTRAINT "{name}" {definition}' for name, definition in cursor.fetchall()]
    for statement in (
        f"ALTER TABLE {TABLE} RENAME TO {BEFORE}",
        f"CREATE TABLE {TABLE} (LIKE {BEFORE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) {partitioning}",
        *partitions,
        f"INSERT INTO {TABLE} SELECT * FROM {BEFORE}",  # noqa: S608
        f"DROP TABLE {BEFORE}",
        f"ALTER TABLE {TABLE} ADD CONSTRAINT {TABLE}_pkey PRIMARY KEY ({primary_key})",
        *rest,
        "SET CONSTRAINTS ALL DEFERRED",
    ):
        cursor.execute(statement)


def nothing(apps, schema_editor):
    pass


def held_return(apps, schema_editor):
    """A table without holds must not take with it what they kept: it goes back to where it came from."""
    names = ("turn_id", "session_id", "seq", "key_id", "sealed", "created_at", "expires_at")
    held = apps.get_model("audit", "HeldContent").objects.values(*names)
    content = apps.get_model("audit", "TurnContent")
    content.objects.bulk_create([content(**row) for row in held.iterator()], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0002_log"),
    ]

    operations = [
        migrations.CreateModel(
            name="HeldContent",
            fields=[
                ("turn_id", models.UUIDField(primary_key=True, serialize=False)),
                ("session_id", models.UUIDField()),
                ("seq", models.PositiveIntegerField()),
                ("sealed", models.BinaryField()),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("key", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="audit.contentkey")),
            ],
            options={
                "db_table": "held_content",
                "default_permissions": (),
                "indexes": [models.Index(fields=["session_id", "seq"], name="held_content_session_seq_idx")],
            },
        ),
        migrations.CreateModel(
            name="LegalHold",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("session_id", models.UUIDField()),
                ("reason", models.TextField()),
                ("placed_by", models.CharField(blank=True, max_length=32)),
                ("placed_at", models.DateTimeField()),
                ("released_by", models.CharField(blank=True, max_length=32)),
                ("released_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "legal_hold",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("released_at__isnull", True)),
                        fields=("session_id",),
                        name="legal_hold_open_session",
                    )
                ],
            },
        ),
        migrations.RemoveConstraint(
            model_name="turncontent",
            name="turn_content_session_seq",
        ),
        migrations.AddIndex(
            model_name="turncontent",
            index=models.Index(fields=["session_id", "seq"], name="turn_content_session_seq_idx"),
        ),
        migrations.RunPython(content_partition, content_unite),
        migrations.RunPython(nothing, held_return),
    ]
