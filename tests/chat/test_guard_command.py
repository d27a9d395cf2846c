from io import StringIO

import pytest
from django.core.management import CommandError, call_command


def explained(*files: object) -> str:
    out = StringIO()
    call_command("guard", *map(str, files), stdout=out)
    return out.getvalue()


def test_a_broken_reply_is_explained_by_code(tmp_path):
    reply = tmp_path / "reply.txt"
    reply.write_text('```json\n{"title": "T", "summary": "", "blocks": [{"type": "markdown", "text": "865 mm"},]}\n```')
    assert {"FENCE", "TRAILING_COMMA"} <= set(explained(reply).replace(":", " ").split())


def test_several_files_are_told_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert explained(tmp_path / "a", tmp_path / "b").count("== ") == 2


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match="missing"):
        explained(tmp_path / "missing")
