"""Indexes for reviewers who look for turns among millions. On PostgreSQL they are made without locking out writers."""

from typing import Any

from django.db import migrations, models

GIN = {
    "chat_turn_repair_codes_gin": "repair_codes",
    "chat_turn_references_gin": "references",
    "chat_turn_arms_gin": "arms",
}


class AddIndexOnline(migrations.AddIndex):
    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        # What an interrupted attempt leaves behind is invalid.
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
        schema_editor.add_index(model, self.index, concurrently=True)


def gin_make(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    for name, column in GIN.items():
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        schema_editor.execute(f'CREATE INDEX CONCURRENTLY "{name}" ON chat_turn USING gin ("{column}" jsonb_path_ops)')


def gin_drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    for name in GIN:
        schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')


class Migration(migrations.Migration):
    # CONCURRENTLY is not allowed in a transaction.
    atomic = False
    dependencies = [("chat", "0005_claim_life")]
    operations = [
        AddIndexOnline("turn", models.Index(fields=["outcome", "created_at"], name="chat_turn_outcome_at")),
        AddIndexOnline("turn", models.Index(fields=["endpoint", "created_at"], name="chat_turn_endpoint_at")),
        AddIndexOnline("turn", models.Index(fields=["model", "created_at"], name="chat_turn_model_at")),
        AddIndexOnline(
            "turn",
            models.Index(fields=["created_at"], condition=models.Q(degraded=True), name="chat_turn_degraded_at"),
        ),
        AddIndexOnline(
            "turn",
            models.Index(fields=["created_at"], condition=models.Q(repaired=True), name="chat_turn_repaired_at"),
        ),
        migrations.RunPython(gin_make, gin_drop),
    ]
