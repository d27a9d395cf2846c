"""What a JSON column holds, asked so that PostgreSQL can use its GIN index; SQLite goes through the values."""

import json
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import F, Func
from django.db.models.sql.compiler import SQLCompiler


class _Holds(Func):
    """`sqlite` is a condition over the columns of json_each, with a place for each of `given`."""

    output_field = models.BooleanField()

    def __init__(self, column: str, contained: Any, sqlite: str, *given: Any) -> None:
        super().__init__(F(column))
        self._contained = json.dumps(contained)
        self._sqlite, self._given = sqlite, given

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        sql, params = compiler.compile(self.source_expressions[0])
        return f"{sql} @> %s::jsonb", (*params, self._contained)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> tuple[str, tuple[Any, ...]]:
        sql, params = compiler.compile(self.source_expressions[0])
        found = f"SELECT 1 FROM json_each({sql}) WHERE {self._sqlite}"  # noqa: S608 (texts of this module alone)
        return f"EXISTS ({found})", (*params, *self._given)


def lists(column: str, value: str) -> Func:
    """Of a list of texts: whether it has this one."""
    return _Holds(column, [value], "value = %s", value)


def lists_named(column: str, key: str, value: str) -> Func:
    """Of a list of objects: whether one of them has this value under `key`."""
    return _Holds(column, [{key: value}], "json_extract(value, '$.' || %s) = %s", key, value)


def sets(column: str, key: str, value: bool) -> Func:
    """Of an object: whether it has this value under `key`."""
    return _Holds(column, {key: value}, "key = %s AND type = %s", key, "true" if value else "false")
