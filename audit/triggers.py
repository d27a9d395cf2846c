"""Triggers that refuse to change what is on record: UPDATE, DELETE, TRUNCATE, and SQLite's INSERT OR REPLACE.

They stop mistakes and whoever has the product's own rights. An owner of the database can drop them; `audit verify`
then says so, and what was changed meanwhile. Installed after every migration: SQLite's remake of a table drops them.
"""

from collections.abc import Mapping

from django.db import connection
from django.db.backends.utils import CursorWrapper

FUNCTION = "audit_append_only"
REFUSAL = "is append only: what is on record stays as it is"
# Each table with what may occur only once: INSERT OR REPLACE would delete the row that has it, past a DELETE trigger.
TABLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "audit_event": (("id",), ("uid",), ("stream", "stream_seq")),
    "audit_leaf": (("index",), ("event_id",)),
    "audit_tile": (("id",), ("level", "index")),
    "audit_checkpoint": (("size",),),
    "audit_signing_key": (("vkey",),),
}
# Bits of pg_trigger.tgtype.
ROW, BEFORE, DELETE, UPDATE, TRUNCATE = 1, 2, 8, 16, 32
BODY = f"""
BEGIN
  RAISE EXCEPTION '% {REFUSAL} (%)', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
"""


def triggers_wrong() -> list[str]:
    """The names of triggers that are missing, switched off or not as installed here; of existing tables only."""
    with connection.cursor() as cursor:
        return _postgresql_wrong(cursor) if connection.vendor == "postgresql" else _sqlite_wrong(cursor)


def triggers_install() -> list[str]:
    """Makes good what triggers_wrong() names, and returns it."""
    wrong = triggers_wrong()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            if wrong:
                _postgresql_install(cursor, wrong)
        else:
            statements = _sqlite_statements()
            for name in wrong:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")
                cursor.execute(statements[name][1])
    return wrong


def _tables() -> list[str]:
    existing = set(connection.introspection.table_names())
    return [table for table in TABLES if table in existing]


# SQLite: a trigger for each operation, compared by its text.


def _sqlite_statements() -> dict[str, tuple[str, str]]:
    statements = {}
    for table, keys in TABLES.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} {REFUSAL}'); END"
        same = " OR ".join(f"({' AND '.join(map(_same, columns))})" for columns in keys)
        exists = f'WHEN EXISTS (SELECT 1 FROM "{table}" WHERE {same}) '  # noqa: S608  (names of this module)
        for verb, condition in (("update", ""), ("delete", ""), ("insert", exists)):
            name = f"{table}_no_{'replace' if verb == 'insert' else verb}"
            create = f'CREATE TRIGGER {name} BEFORE {verb.upper()} ON "{table}" {condition}{refuse}'
            statements[name] = (table, create)
    return statements


def _same(column: str) -> str:
    # Of a row without an id yet SQLite shows -1: a stored row of that id would otherwise refuse every other one.
    return f'"{column}" = NEW."{column}"' + (' AND NEW."id" <> -1' if column == "id" else "")


def _sqlite_wrong(cursor: CursorWrapper) -> list[str]:
    cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    found = dict(cursor.fetchall())
    tables = _tables()
    return [name for name, (table, sql) in _sqlite_statements().items() if table in tables and found.get(name) != sql]


# PostgreSQL: two triggers a table, compared by the catalogue, and the function that both call.


def _postgresql_triggers() -> Mapping[str, tuple[str, str, int]]:
    rows = {f"{table}_no_change": (table, "UPDATE OR DELETE", ROW | BEFORE | DELETE | UPDATE) for table in TABLES}
    return rows | {f"{table}_no_truncate": (table, "TRUNCATE", BEFORE | TRUNCATE) for table in TABLES}


def _postgresql_wrong(cursor: CursorWrapper) -> list[str]:
    cursor.execute(
        "SELECT t.tgname, t.tgrelid::regclass::text, t.tgtype, "
        "t.tgenabled = 'A' AND t.tgqual IS NULL AND t.tgattr::text = '', p.prosrc "
        "FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal"
    )
    # `A`: also with session_replication_role = replica, which any superuser's session may set.
    found = {(name, table, kind, sound, source) for name, table, kind, sound, source in cursor.fetchall()}
    tables = _tables()
    return [
        name
        for name, (table, _, kind) in _postgresql_triggers().items()
        if table in tables and (name, table, kind, True, BODY) not in found
    ]


def _postgresql_install(cursor: CursorWrapper, names: list[str]) -> None:
    cursor.execute(f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $${BODY}$$")
    for name in names:
        table, operations, kind = _postgresql_triggers()[name]
        each = "ROW" if kind & ROW else "STATEMENT"
        cursor.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        cursor.execute(
            f"CREATE TRIGGER {name} BEFORE {operations} ON {table} FOR EACH {each} EXECUTE FUNCTION {FUNCTION}()"
        )
        cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
