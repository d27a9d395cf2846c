"""What the product reads, offers and answers is written down, and what is written down is there."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import find_commands
from django.urls import URLPattern, URLResolver, get_resolver

from flags.registry import REGISTRY
from tests.environment import ROOT

CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
SOURCES = ["onesource/settings.py", "flags/registry.py", "deploy/gunicorn.conf.py", "deploy/run.py", "ops/metrics.py"]
OURS = ("onesource", "audit", "flags", "knowledge", "chat", "review", "ops")
# Read by Django itself, the same in every Django project.
DJANGO = {"DJANGO_SETTINGS_MODULE"}


@cache
def pages() -> str:
    """README.md and everything under docs/ that people read."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in found if path.exists())


def read_by(source: str) -> set[str]:
    """Names in upper case that are given to a reader of the environment: env.text("X"), os.environ.get("X"), ["X"]."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and re.search(r"\b(env\.\w+|environ\.\w+|getenv)$", ast.unparse(node.func)):
            found |= {
                arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
        elif isinstance(node, ast.Compare) and any(ast.unparse(side) == "os.environ" for side in node.comparators):
            found |= {node.left.value} if isinstance(node.left, ast.Constant) else set()
    return found - DJANGO


def read() -> set[str]:
    return {name for source in SOURCES for name in read_by(source)} | set(REGISTRY)


def documented() -> set[str]:
    """The names in the first columns of the tables; `HOST, PORT` are two."""
    rows = re.findall(r"^\| ([A-Z][A-Z0-9_, ]+) \|", CONFIGURATION, re.M)
    return {name for row in rows for name in row.replace(" ", "").split(",")}


def default_of(key: str) -> str:
    (default,) = re.findall(rf"^\| {key} \| ([^|]+) \|", CONFIGURATION, re.M)
    return str(default).strip()


# Configuration


def test_the_sources_are_all_there_are() -> None:
    """A variable that is read elsewhere would be missed by the tests below."""
    folders = [*OURS, "deploy"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    reading = {str(path.relative_to(ROOT)) for path in files if read_by(str(path.relative_to(ROOT)))}
    assert reading - {"onesource/env.py", "onesource/wsgi.py"} <= set(SOURCES)


@pytest.mark.parametrize("name", sorted(read()))
def test_a_variable_that_is_read_is_documented(name: str) -> None:
    assert name in documented()


@pytest.mark.parametrize("name", sorted(documented()))
def test_a_variable_that_is_documented_is_read(name: str) -> None:
    assert name in read()


def secrets() -> set[str]:
    text = (ROOT / "onesource/settings.py").read_text(encoding="utf-8")
    return set(re.findall(r'env\.secret(?:_or_made)?\(\s*"(\w+)"', text))


@pytest.mark.parametrize("name", sorted(secrets()))
def test_a_secret_is_documented_as_one_that_a_file_may_hold(name: str) -> None:
    (sentence,) = re.findall(r"Every secret \(([^)]+)\) can come from a file", CONFIGURATION)
    assert name in sentence


@pytest.mark.parametrize("key", sorted(REGISTRY))
def test_a_flag_is_documented_with_its_default(key: str) -> None:
    default = REGISTRY[key].default
    expected = {True: "1", False: "0"}[default] if isinstance(default, bool) else f"{default}"
    if key == "CONV_STORE_PRIMARY":
        expected = "redis with REDIS_URL, else database"
    assert default_of(key) == expected


@pytest.mark.parametrize("key", sorted(REGISTRY))
def test_a_flag_is_in_the_table_of_those_that_the_admin_edits_unless_it_is_read_at_the_start(key: str) -> None:
    (section,) = re.findall(r"## Flags and settings that the admin edits.*?(?=\n## )", CONFIGURATION, re.S)
    assert (f"| {key} |" in section) is not REGISTRY[key].boot


# Commands


def commands() -> list[str]:
    ours = (config for config in apps.get_app_configs() if config.label in OURS)
    return sorted(name for config in ours for name in find_commands(str(Path(config.path) / "management")))


@pytest.mark.parametrize("name", commands())
def test_a_command_is_documented(name: str) -> None:
    assert re.search(rf"manage\.py {name}\b", pages())


@pytest.mark.parametrize("target", ["run", "test", "lint"])
def test_a_make_target_is_documented(target: str) -> None:
    assert f"make {target}" in pages()


# Addresses


def addresses(patterns: list[Any], prefix: str = "/") -> set[str]:
    """Every path that the product answers, with {name} for a variable part. Of the admin only its entrance."""
    found: set[str] = set()
    for pattern in patterns:
        path = prefix + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        if isinstance(pattern, URLResolver) and pattern.namespace != "admin":
            found |= addresses(pattern.url_patterns, path)
        elif isinstance(pattern, (URLPattern, URLResolver)):
            found.add(path)
    return found


@pytest.mark.parametrize("path", sorted(addresses(get_resolver("onesource.urls").url_patterns)))
def test_an_address_is_documented(path: str) -> None:
    shape = re.sub(r"\\\{\w+\\\}", r"\\{\\w+\\}", re.escape(path))
    # In code quotes, a table or after a host; "/chat" is not documented by "/chat/enhanced".
    assert re.search(rf"(?<![\w}}]){shape}(?![\w/{{-])", pages())


# Links


def links(page: Path) -> list[str]:
    """Targets in the repository, relative to the page."""
    return re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))


def test_a_link_to_a_file_leads_somewhere() -> None:
    written = [page for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if page.exists()]
    assert [(page.name, to) for page in written for to in links(page) if not (page.parent / to).exists()] == []
