"""What gunicorn's configuration prints for people."""

import runpy
from types import SimpleNamespace
from typing import Any

import pytest

from tests.environment import ROOT


@pytest.mark.parametrize(("listener", "address"), [
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"), ("http://0.0.0.0:8001", "http://127.0.0.1:8001/"),
])  # fmt: skip
def test_in_development_a_plain_line_says_that_it_is_ready(
    capsys: pytest.CaptureFixture[str], listener: str, address: str
) -> None:
    configuration = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    configuration["when_ready"](SimpleNamespace(LISTENERS=[listener]))
    assert f"Ready: {address}" in capsys.readouterr().out.splitlines()


def test_in_production_all_lines_are_json(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    settings.PRODUCTION = True
    configuration = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    configuration["when_ready"](SimpleNamespace(LISTENERS=["http://127.0.0.1:8000"]))
    assert capsys.readouterr().out == ""
