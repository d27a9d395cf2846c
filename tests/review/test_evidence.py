"""Evidence outlives content: exported before and after a purge or an erasure it verifies, on a machine without us."""

import io
import subprocess
import sys
import zipfile
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from audit import retention
from audit.models import ContentKey, SubjectAlias, TurnContent
from audit.retention import purge_run
from audit.sealing import log_seal
from audit.services import subject_ref_of
from audit.signing import signer
from chat.erasing import subject_erase
from chat.models import Turn
from onesource.errors import Gone
from review.filters import TurnFilters
from review.selectors import content_state
from review.services import content_reveal, turns_export
from review.verification import trail_verify
from tests.cast import Member
from tests.chat.asking import converse
from tests.review.turns import QUESTION, REASON, page_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """later(): from now on the clocks are a month ahead, the database's as well: the purge trusts neither alone."""
    now = timezone.now

    def shift() -> None:
        monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(days=32))
        monkeypatch.setattr(retention, "database_now", timezone.now)

    return shift


def purge(turn: Turn, later: Any) -> None:
    later()
    assert purge_run().turns == 2


def erase(turn: Turn, later: Any) -> None:
    subject_erase(subject_ref=turn.session.subject_ref, reason=REASON, actor_ref="", source="tests")


def exported(turn: Turn, path: Path, *, with_content: bool) -> Path:
    log_seal()
    pieces: Any = turns_export(
        filters=TurnFilters(session=turn.session_id),
        format_="zip",
        reason=REASON,
        actor_ref="",
        source="tests",
        with_content=with_content,
    )
    path.write_bytes(b"".join(pieces))
    return path


def verify(path: Path) -> subprocess.CompletedProcess[str]:
    """With the verifier inside the file and the operator's published key; -I: nothing of ours can be imported."""
    program = path.parent / "alone" / "verify.py"
    program.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        program.write_bytes(archive.read("verify.py"))
    command = [sys.executable, "-I", str(program), str(path), "--vkey", signer().vkey]
    return subprocess.run(command, cwd=program.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("remove", [purge, erase])
def test_an_export_before_and_one_after_both_verify(
    owner: Member, reviewer: Member, tmp_path: Path, remove: Any, later: Any
) -> None:
    first, _ = converse(owner, QUESTION, "And in a school?")
    turn = Turn.objects.select_related("session").get(pk=first["meta"]["turn_id"])
    ref = turn.session.subject_ref
    before = exported(turn, tmp_path / "before.zip", with_content=True)

    remove(turn, later)

    assert not TurnContent.objects.exists()
    assert not ContentKey.objects.filter(subject_ref=ref).exists()
    assert SubjectAlias.objects.filter(subject_ref=ref).exists() == (remove is purge)
    after = exported(turn, tmp_path / "after.zip", with_content=True)
    for path in (before, after):
        done = verify(path)
        assert done.returncode == 0, done.stdout
        assert done.stdout.strip().endswith("HOLDS.")
    assert QUESTION in zipfile.ZipFile(before).read(f"content/{turn.pk}.json").decode()
    assert not [name for name in zipfile.ZipFile(after).namelist() if name.startswith("content/")]
    assert "content is not part of this export" in verify(after).stdout
    assert trail_verify().findings == []

    turn.refresh_from_db()
    said = content_state(turn).sentence
    assert said.startswith("Content purged on" if remove is purge else "Content erased on")
    assert escape(said) in page_of(reviewer, f"/audit/turns/{turn.pk}/")
    with pytest.raises(Gone, match=said[:20]):
        content_reveal(turn_id=turn.pk, reason=REASON, actor_ref=subject_ref_of(reviewer.user), source="tests")


@pytest.mark.parametrize("kind", ["events/", "proofs/", "checkpoint.txt", "content/", "manifest.json"])
def test_a_changed_byte_in_an_export_fails(owner: Member, tmp_path: Path, kind: str) -> None:
    first, _ = converse(owner, QUESTION, "And in a school?")
    turn = Turn.objects.select_related("session").get(pk=first["meta"]["turn_id"])
    path = exported(turn, tmp_path / "whole.zip", with_content=True)
    assert verify(path).returncode == 0
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.startswith(kind))
    place = members[name].rindex(b"a")
    members[name] = members[name][:place] + b"b" + members[name][place + 1 :]
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    path.write_bytes(forged.getvalue())
    done = verify(path)
    assert done.returncode == 1
    assert "FAILURE" in done.stdout
