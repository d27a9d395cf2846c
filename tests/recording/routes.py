"""Every address of the URLconf, with a path that leads to a row which is there."""

import re
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
NOWHERE = "00000000-0000-4000-8000-000000000000"
# What stands for a variable part, when no row of the admin does.
SAMPLES = {
    "key": "CONV_MAX_TURNS",
    "session_id": NOWHERE,
    "turn_id": NOWHERE,
    "uid": NOWHERE,
    "content_type_id": "1",
    "object_id": "1",
    "id": "1",
}


@dataclass(frozen=True)
class Route:
    """`name` with its namespaces; the pattern for a route without one."""

    name: str
    pattern: str
    callback: Any

    def path(self, **held: str) -> str:
        """Of the admin's rows the first one; `held` stands for the variable parts that it names."""
        pattern = re.sub(r"^(.*)\^\(\?P<app_label>(\w+).*$", r"\1\2/", self.pattern)
        pattern = re.sub(r"\(\?P<url>.*$", "nowhere", pattern)
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: self._part(found[1], held), pattern)

    def _part(self, name: str, held: dict[str, str]) -> str:
        return held.get(name) or (name in ("object_id", "id") and self.first_row()) or SAMPLES[name]

    def first_row(self) -> str:
        """Of the model whose page of the admin it is; "" when it is none's."""
        for model in admin.site._registry:
            if self.pattern.startswith(f"admin/{model._meta.app_label}/{model._meta.model_name}/"):
                row = model._default_manager.order_by("pk").first()
                assert row is not None, f"there is no row for {self.pattern}"
                return str(row.pk)
        return ""


def routes() -> list[Route]:
    return sorted(_routes(get_resolver("onesource.urls").url_patterns), key=lambda route: route.name)


def _routes(patterns: list[Any], prefix: str = "", namespace: str = "") -> list[Route]:
    found: list[Route] = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            found += _routes(pattern.url_patterns, path, inner)
        elif isinstance(pattern, URLPattern):
            found.append(Route(f"{namespace}{pattern.name}" if pattern.name else path, path, pattern.callback))
    return found


def rows_held() -> dict[str, int]:
    """How many rows each table has."""
    held = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT COUNT(*) FROM {connection.ops.quote_name(table)}")
            held[table] = cursor.fetchone()[0]
    return held
