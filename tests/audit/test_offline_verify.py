"""verify.py on exports that are built here: it runs with nothing of ours, and notices whatever was changed."""

import ast
import base64
import contextlib
import hashlib
import hmac
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.canonical import canonical_json
from audit.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash, root
from audit.notes import Checkpoint, Signer
from audit.offline import verify
from tests.environment import ROOT

SCRIPT = ROOT / "audit/offline/verify.py"
ORIGIN = "onesource.example/log"
SIGNER = Signer(ORIGIN, bytes(range(32)))
FORGER = Signer(ORIGIN, b"\x09" * 32)
TURNS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(3)]
QUESTION, ANSWER, SALT = "Wie hoch ist der Zuschlag für Nachtarbeit? 🌙", "25 % (§ 3b EStG)", bytes(range(32, 64))

Members = dict[str, bytes]


def commitment(text: str) -> dict[str, Any]:
    return {"chars": len(text), "hmac": hmac.new(SALT, text.encode(), hashlib.sha256).hexdigest()}


def body(index: int, kind: str = "flag.changed", stream: str = "flags", **facts: Any) -> dict[str, Any]:
    at = f"2026-03-01T09:{index // 60:02d}:{index % 60:02d}.000000+00:00"
    return {
        "v": 1, "uid": f"uid-{index}", "at": at, "kind": kind, "stream": stream, "seq": index, "actor": "s-1",
        "facts": facts,
    }  # fmt: skip


@dataclass
class Log:
    """300 events, of which three turns and a change of a flag are exported."""

    bodies: list[dict[str, Any]] = field(default_factory=lambda: [body(index) for index in range(300)])
    exported: tuple[int, ...] = (7, 8, 9, 255, 299)
    earlier: tuple[int, ...] = (100, 256)
    signer: Signer = SIGNER

    def __post_init__(self) -> None:
        session = "session:a"
        both = {"question": commitment(QUESTION), "answer": commitment(ANSWER)}
        self.bodies[7] = body(7, "turn.started", session, turn_id=TURNS[0], question=commitment(QUESTION))
        self.bodies[8] = body(8, "turn.completed", session, turn_id=TURNS[0], **both)
        self.bodies[9] = body(9, "turn.completed", session, turn_id=TURNS[1], **both)
        self.bodies[255] = body(255, "turn.aborted", session, turn_id=TURNS[2], question=commitment(QUESTION))

    def members(self) -> Members:
        entries = [canonical_json(each) for each in self.bodies]
        leaves = [leaf_hash(entry) for entry in entries]

        def subtree(level: int, index: int) -> bytes:
            return root(leaves[index << level : (index + 1) << level])

        def signed(size: int) -> bytes:
            return self.signer.sign(Checkpoint(ORIGIN, size, root(leaves[:size])).text()).encode()

        size = len(leaves)
        files = {"checkpoint.txt": signed(size), "keys.txt": f"# keys\n{self.signer.vkey}\n".encode()}
        for old in self.earlier:
            hashes = [value.hex() for value in consistency_proof(old, size, subtree)]
            files[f"checkpoints/{old}.txt"] = signed(old)
            files[f"consistency/{old}-{size}.json"] = as_json({"old": old, "new": size, "hashes": hashes})
        for index in self.exported:
            hashes = [value.hex() for value in inclusion_proof(index, size, subtree)]
            files[f"events/{index:012d}.json"] = entries[index]
            files[f"proofs/{index:012d}.json"] = as_json({"index": index, "size": size, "hashes": hashes})
        files[f"content/{TURNS[0]}.json"] = content(TURNS[0])
        files |= {"turns.csv": b"turn_id\n", "README.txt": b"How to verify\n", "verify.py": SCRIPT.read_bytes()}
        return listed(files, turns=TURNS)


def content(turn_id: str, **other: Any) -> bytes:
    texts = {"turn_id": turn_id, "question": QUESTION, "answer_text": ANSWER, "salt": SALT.hex(), "answer": {"p": 0.5}}
    return as_json(texts | other)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def listed(files: Members, **other: Any) -> Members:
    """With a manifest over the files as they are: what a forger would do after a change."""
    old = json.loads(files["manifest.json"]) if "manifest.json" in files else {}
    files = {name: value for name, value in files.items() if name != "manifest.json"}
    manifest = {
        "format": "onesource-evidence/1",
        "made_at": "2026-03-02T10:00:00+00:00",
        "origin": ORIGIN,
        "note": "For the works council.",
        **old,
        **other,
        "files": {name: hashlib.sha256(value).hexdigest() for name, value in files.items()},
    }
    return files | {"manifest.json": as_json(manifest)}


def packed(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return path


def unpacked(path: Path, members: Members) -> Path:
    for name, value in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(value)
    return path


MEMBERS = Log().members()
EVENT = "events/000000000008.json"
PROOF = "proofs/000000000008.json"
CONTENT = f"content/{TURNS[0]}.json"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return packed(tmp_path / "export.zip", MEMBERS)


def run(script: Path, *args: Any, python: tuple[str, ...] = ("-I",), **environment: str) -> tuple[int, str]:
    """Exit status and output in a process that has neither our folder nor our settings."""
    command = [sys.executable, *python, str(script), *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, cwd="/", env={"PATH": os.environ["PATH"]} | environment, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()


def failures(path: Path, *vkeys: str) -> list[str]:
    """The same in this process. Whatever is not a Failure would be a traceback and fails the test."""
    report = verify.Report()
    report.attempt("export", verify.check_export, path, list(vkeys), report)
    return report.failures


def failures_of(tmp_path: Path, members: Members, *vkeys: str) -> list[str]:
    return failures(packed(tmp_path / "export.zip", members), *vkeys)


# What holds


def test_a_good_export_holds_and_lists_its_events(export: Path) -> None:
    status, output = run(SCRIPT, export)
    assert status == 0, output
    assert output.endswith("\nHOLDS, if the keys above are the operator's.\n")
    assert "  000000000008  2026-03-01T09:00:08.000000+00:00  turn.completed  session:a  8\n" in output
    assert output.count("\n  000000000") == 5
    assert f"Checkpoint: 300 events of {ORIGIN}" in output
    assert f"  {TURNS[0]}  question and answer as committed to\n" in output
    assert f"  {TURNS[1]}  content is not part of this export\n" in output
    assert "only the word of the export's maker" in output
    assert "for manifest.json, README.txt, turns.csv, verify.py.\n" in output


def test_the_report_says_that_the_keys_came_with_the_export_unless_they_are_given(export: Path) -> None:
    _, own = run(SCRIPT, export)
    assert "Whoever made the export could have made them too" in own
    assert SIGNER.vkey in own
    status, given = run(SCRIPT, export, "--vkey", SIGNER.vkey, "--vkey", FORGER.vkey)
    assert (status, given.splitlines()[-1]) == (0, "HOLDS.")
    assert "keys.txt was not used" in given


def test_the_script_verifies_the_folder_it_lies_in(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "export", MEMBERS)
    status, output = run(folder / "verify.py")
    assert status == 0, output
    (folder / EVENT).write_bytes(MEMBERS[EVENT] + b" ")
    status, output = run(folder / "verify.py")
    assert (status, "DOES NOT HOLD" in output) == (1, True)


def test_an_export_with_entries_for_its_folders_holds(tmp_path: Path) -> None:
    path = packed(tmp_path / "export.zip", MEMBERS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("events/", b"")
    assert failures(path) == []


def test_a_log_of_one_event_without_texts_holds(tmp_path: Path) -> None:
    members = Log(exported=(0,), earlier=(300,)).members()
    del members[CONTENT]
    assert failures_of(tmp_path, listed(members, turns=[])) == []


# What was changed


def changeable() -> list[tuple[str, int]]:
    """All places but the manifest's date, note and white space, which nothing vouches for; the report says so."""
    manifest = MEMBERS["manifest.json"]
    free = {at for at in range(len(manifest)) if manifest[at : at + 1].isspace()}
    for value in (b"2026-03-02T10:00:00+00:00", b"For the works council."):
        free |= set(range(manifest.index(value), manifest.index(value) + len(value)))
    return [
        (name, at)
        for name, value in MEMBERS.items()
        for at in range(len(value))
        if name != "manifest.json" or at not in free
    ]


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    places = changeable()
    by_member = {name: [at for member, at in places if member == name] for name in MEMBERS}
    draw = random.Random(6962)
    sample = [(name, draw.choice(ats)) for name, ats in by_member.items() for _ in range(7)] + draw.sample(places, 60)
    assert len(sample) > 200
    for name, at in sample:
        value = MEMBERS[name]
        changed = value[:at] + bytes([value[at] ^ draw.choice([1, 2, 0x20, 0x80])]) + value[at + 1 :]
        assert failures_of(tmp_path, MEMBERS | {name: changed}), (name, at)


def test_a_change_with_a_manifest_to_match_is_noticed_by_log_and_signature(tmp_path: Path) -> None:
    draw = random.Random(2)
    backed = [name for name in MEMBERS if name.split("/")[0] in ("events", "proofs", "checkpoints", "checkpoint.txt")]
    for name in backed:
        for _ in range(6):
            value = MEMBERS[name]
            at = draw.choice([at for at in range(len(value)) if not value[at : at + 1].isspace()])
            changed = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            assert failures_of(tmp_path, listed(MEMBERS | {name: changed})), (name, at)


def test_a_damaged_zip_file_never_ends_in_a_traceback(export: Path, tmp_path: Path) -> None:
    raw = export.read_bytes()
    draw = random.Random(1)
    damaged = tmp_path / "damaged.zip"
    noticed = 0
    for at in [*draw.sample(range(len(raw)), 120), *range(len(raw) - 120, len(raw))]:
        damaged.write_bytes(raw[:at] + bytes([raw[at] ^ draw.randrange(1, 256)]) + raw[at + 1 :])
        if failures(damaged):
            noticed += 1
            continue
        # Dates, attributes and the like: every file is still the same.
        with zipfile.ZipFile(damaged) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    assert noticed > 120
    for length in (0, 1, 22, len(raw) // 2, len(raw) - 1):
        damaged.write_bytes(raw[:length])
        assert failures(damaged)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"not a ZIP file", bytes(1000)])
def test_what_is_no_zip_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(content)
    status, output = run(SCRIPT, path)
    assert (status, "Traceback" in output, "DOES NOT HOLD: 1 failure." in output) == (1, False, True)


def test_a_path_that_is_not_there_and_a_folder_without_export_are_failures(tmp_path: Path) -> None:
    assert "cannot be opened" in failures(tmp_path / "none.zip")[0]
    assert "no manifest.json" in failures(tmp_path)[0]


def test_a_folder_that_cannot_be_listed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed over, it could hold files that the manifest does not list."""
    folder = unpacked(tmp_path / "export", MEMBERS | {"locked/extra.txt": b""})
    listing = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError("locked")
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (found,) = failures(folder)
    assert "cannot be opened (locked)" in found


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_missing_file_is_noticed_and_named(tmp_path: Path, name: str) -> None:
    members = {other: value for other, value in MEMBERS.items() if other != name}
    assert any(name in failure and "missing" in failure for failure in failures_of(tmp_path, members))


@pytest.mark.parametrize("name", ["extra.txt", "events/000000000001.txt", "events/000000000001.json", "a/b/c"])
def test_a_file_that_the_manifest_does_not_list_is_noticed(tmp_path: Path, name: str) -> None:
    found = failures_of(tmp_path, MEMBERS | {name: b"{}"})
    assert f"{name}: is not listed in manifest.json" in found


@pytest.mark.parametrize("name", ["events/8.json", "proofs/000000000008.txt", "content/x.json", "consistency/1.json"])
def test_a_listed_file_under_a_name_that_nothing_reads_is_noticed(tmp_path: Path, name: str) -> None:
    (found,) = failures_of(tmp_path, listed(MEMBERS | {name: b"{}"}))
    assert found.startswith(f"{name}: is not a name for a file in")


# Archives that are made to harm


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [EVENT, "manifest.json"])
def test_a_name_that_is_there_twice_is_refused(export: Path, name: str) -> None:
    with zipfile.ZipFile(export, "a") as archive:
        archive.writestr(name, MEMBERS[name])
    (found,) = failures(export)
    assert f"{name} is there twice" in found


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "..\\evil", "C:evil", "a\x1b[2J"]
)
def test_a_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    (found,) = failures_of(tmp_path, listed(MEMBERS | {name: b""}))
    assert "stays in its folder" in found


def test_names_that_differ_in_capitals_only_are_refused(tmp_path: Path) -> None:
    (found,) = failures_of(tmp_path, listed(MEMBERS | {"readme.TXT": b""}))
    assert "capitals" in found


def test_a_link_is_refused(export: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(export, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "link" in failures(export)[0]
    folder = unpacked(tmp_path / "export", MEMBERS)
    (folder / "README.txt").unlink()
    (folder / "README.txt").symlink_to("/etc/passwd")
    assert "README.txt is neither a file nor a folder" in failures(folder)[0]


def test_a_packing_other_than_deflate_is_refused(export: Path) -> None:
    with zipfile.ZipFile(export, "a") as archive:
        archive.writestr("extra", b"x", zipfile.ZIP_LZMA)
    assert "unusual way" in failures(export)[0]


def test_an_archive_that_would_unpack_to_too_much_is_not_unpacked(export: Path) -> None:
    with zipfile.ZipFile(export, "a") as archive:
        archive.writestr("turns2.csv", bytes(1000))
        archive.getinfo("turns2.csv").file_size = 1 << 30
    (found,) = failures(export)
    assert "bytes when unpacked" in found


def test_a_member_longer_than_the_directory_says_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in MEMBERS.items():
            archive.writestr(name, value)
        archive.getinfo("turns.csv").file_size -= 1
    assert any(failure.startswith("turns.csv: cannot be read") for failure in failures(path))


def test_a_zip_file_over_the_limit_is_not_opened(export: Path) -> None:
    with export.open("r+b") as file:
        file.truncate((1 << 30) + 1)
    (found,) = failures(export)
    assert "has more than 1073741824 bytes" in found


def test_too_many_files_are_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "FILES_LIMIT", len(MEMBERS) - 1)
    (found,) = failures(export)
    assert f"holds {len(MEMBERS)} files" in found


# Forgeries, each with a manifest that fits


def test_an_export_signed_with_another_key_fails_against_the_published_one(tmp_path: Path) -> None:
    path = packed(tmp_path / "forged.zip", Log(signer=FORGER).members())
    status, output = run(SCRIPT, path, "--vkey", SIGNER.vkey)
    assert status == 1
    assert "FAILURE  checkpoint.txt: is not signed by any of the keys" in output
    status, output = run(SCRIPT, path)
    assert (status, f"      {FORGER.vkey}\n" in output) == (0, True)


def test_a_signature_taken_from_another_checkpoint_is_wrong(tmp_path: Path) -> None:
    other = Log(bodies=[body(index, stream="x") for index in range(300)]).members()["checkpoint.txt"].decode()
    text = MEMBERS["checkpoint.txt"].decode().rpartition("\n\n")[0]
    note = f"{text}\n\n{other.rpartition(chr(10) * 2)[2]}"
    assert "is wrong" in failures_of(tmp_path, listed(MEMBERS | {"checkpoint.txt": note.encode()}))[0]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff",
        MEMBERS["checkpoint.txt"][:-1],
        MEMBERS["checkpoint.txt"].replace(b"\n\n", b"\n"),
        MEMBERS["checkpoint.txt"] + b"x\n",
        SIGNER.sign("only text\n").encode(),
        SIGNER.sign(f"{ORIGIN}\n300\nAAAA\n").encode(),
        SIGNER.sign(MEMBERS["checkpoint.txt"].decode().partition("\n\n")[0] + "\nextension\n").encode(),
        SIGNER.sign(MEMBERS["checkpoint.txt"].decode().partition("\n\n")[0].replace("\n300", "\n0300") + "\n").encode(),
        MEMBERS["checkpoint.txt"] + b"\x1b[2J\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(tmp_path: Path, note: bytes) -> None:
    found = failures_of(tmp_path, listed(MEMBERS | {"checkpoint.txt": note}), SIGNER.vkey)
    assert found[0].startswith("checkpoint.txt: ")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (b"", "names no key"),
        (b"# none\n\n", "names no key"),
        (b"\xff", "UTF-8"),
        (b"nonsense\n", "not a vkey"),
        (SIGNER.vkey.replace("onesource", "twosource").encode(), "not the one of its key"),
        (b"log+00000000+BgAA", "algorithm 0x06"),
    ],
)
def test_keys_that_cannot_be_used_are_named(tmp_path: Path, keys: bytes, reason: str) -> None:
    found = failures_of(tmp_path, listed(MEMBERS | {"keys.txt": keys}))
    assert found[0].startswith("keys.txt: ")
    assert reason in found[0]


def test_control_characters_are_refused_though_they_are_signed(tmp_path: Path) -> None:
    text = MEMBERS["checkpoint.txt"].decode().partition("\n\n")[0].replace("\n300", "\x1b\n300") + "\n"
    signature = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(text.encode())
    encoded = base64.b64encode(SIGNER.verifier.key_id + signature).decode()
    note = f"{text}\n— {ORIGIN} {encoded}\n".encode()
    found = failures_of(tmp_path, listed(MEMBERS | {"checkpoint.txt": note}))
    assert found[0] == "checkpoint.txt: holds control characters"


def test_an_event_put_in_the_place_of_another_is_not_in_the_log_there(tmp_path: Path) -> None:
    members = MEMBERS | {EVENT: MEMBERS["events/000000000009.json"]}
    assert f"{EVENT}: is not in the log at this index" in failures_of(tmp_path, listed(members))[0]


def test_a_proof_for_another_index_or_size_is_refused(tmp_path: Path) -> None:
    for key, value in (("index", 9), ("size", 299), ("index", True), ("hashes", "ab")):
        proof = as_json(json.loads(MEMBERS[PROOF]) | {key: value})
        found = failures_of(tmp_path, listed(MEMBERS | {PROOF: proof}))
        assert found[0].startswith(f"{EVENT}: ")


def test_a_proof_of_another_length_is_refused(tmp_path: Path) -> None:
    proof = json.loads(MEMBERS[PROOF])
    hashes = proof["hashes"]
    for wrong in ([], hashes[1:], hashes[:-1], [*hashes, hashes[0]], hashes[::-1], [h.upper() for h in hashes], [1]):
        found = failures_of(tmp_path, listed(MEMBERS | {PROOF: as_json(proof | {"hashes": wrong})}))
        assert found[0].startswith(f"{EVENT}: ")


def test_an_event_without_proof_or_a_proof_without_event_is_refused(tmp_path: Path) -> None:
    for gone in (EVENT, PROOF):
        members = {name: value for name, value in MEMBERS.items() if name != gone}
        assert any(f.startswith(f"{EVENT}: ") and "missing" in f for f in failures_of(tmp_path, listed(members)))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"v":1,  "uid":"u","at":"t","kind":"k","stream":"s","seq":1,"actor":"a","facts":{}}',
        canonical_json({**body(8), "v": 2}),
        canonical_json({**body(8), "more": 1}),
        canonical_json({**body(8), "seq": "8"}),
        canonical_json(body(8)).replace(b'{"actor"', b'{"actor":"s-2","actor"'),
        canonical_json(body(8, x="\u00e4")).replace("\u00e4".encode(), b"\\u00e4"),
        canonical_json(body(8, x="y")).replace(b'"y"', b"NaN"),
        canonical_json(body(8, x="y")).replace(b'"y"', b'"\\ud800"'),
        canonical_json(body(8, x="y")).replace(b'"y"', b"[" * 50_000 + b"]" * 50_000),
        b"[]",
        b"\xff",
    ],
)
def test_an_event_in_the_log_that_is_no_canonical_body_is_refused(tmp_path: Path, raw: bytes) -> None:
    """The signer is honest here, so that nothing but the form is wrong."""
    note = SIGNER.sign(Checkpoint(ORIGIN, 1, leaf_hash(raw)).text())
    name = "events/000000000000.json"
    files = {
        "checkpoint.txt": note.encode(),
        "keys.txt": SIGNER.vkey.encode(),
        name: raw,
        "proofs/000000000000.json": as_json({"index": 0, "size": 1, "hashes": []}),
    }
    found = failures_of(tmp_path, listed(files, turns=[]))
    assert found[0].startswith(f"{name}: ")


@pytest.mark.parametrize(("key", "once"), [("seq", "number 8 of stream session:a"), ("uid", "uid uid-8")])
def test_a_number_or_uid_that_two_events_have_is_noticed(tmp_path: Path, key: str, once: str) -> None:
    log = Log()
    log.bodies[9][key] = log.bodies[8][key]
    (found,) = failures_of(tmp_path, log.members())
    assert found == f"events/000000000009.json: {once} is also that of event 000000000008"


def test_an_export_without_events_shows_nothing(tmp_path: Path) -> None:
    members = Log(exported=()).members()
    del members[CONTENT]
    assert failures_of(tmp_path, listed(members, turns=[])) == ["events: none is there that holds, so nothing is shown"]


# Earlier checkpoints


def test_a_rewritten_log_does_not_go_on_from_its_earlier_checkpoint(tmp_path: Path) -> None:
    bodies = [body(index) for index in range(300)]
    bodies[50] = body(50, note="rewritten")
    members = Log(bodies=bodies).members() | {name: MEMBERS[name] for name in ("checkpoints/100.txt",)}
    (found,) = failures_of(tmp_path, listed(members))
    assert found.startswith("consistency/100-300.json: does not lead")


def test_an_earlier_checkpoint_needs_its_proof_and_a_proof_its_checkpoint(tmp_path: Path) -> None:
    for gone in ("checkpoints/100.txt", "consistency/100-300.json"):
        members = {name: value for name, value in MEMBERS.items() if name != gone}
        (found,) = failures_of(tmp_path, listed(members))
        assert "100.txt" in found


@pytest.mark.parametrize("name", ["checkpoints/101.txt", "consistency/101-300.json", "consistency/0-300.json"])
def test_an_earlier_checkpoint_under_another_size_is_refused(tmp_path: Path, name: str) -> None:
    old = name.replace("101", "100").replace("/0-", "/100-")
    assert failures_of(tmp_path, listed(MEMBERS | {name: MEMBERS[old]}))


def test_a_wrong_consistency_proof_is_refused(tmp_path: Path) -> None:
    name = "consistency/100-300.json"
    proof = json.loads(MEMBERS[name])
    hashes = proof["hashes"]
    for wrong in ([], hashes[1:], hashes[:-1], [*hashes, hashes[0]], [hashes[1], hashes[0], *hashes[2:]]):
        (found,) = failures_of(tmp_path, listed(MEMBERS | {name: as_json(proof | {"hashes": wrong})}))
        assert found.startswith(f"{name}: ")


# Texts


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": QUESTION.replace("hoch", "hach")}, "question is not the text"),
        ({"question": QUESTION + " "}, "question is not the text"),
        ({"answer_text": ""}, "answer_text is not the text"),
        ({"salt": bytes(32).hex()}, "question is not the text"),
        ({"salt": "xyz"}, "salt is not hex"),
        ({"salt": ""}, "salt is not hex"),
        ({"turn_id": TURNS[1]}, "of another turn"),
        ({"question": None}, "question must be str"),
        ({"question": "\ud800"}, "question is not the text"),
    ],
)
def test_a_changed_text_is_not_the_one_committed_to(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    raw = json.dumps(json.loads(content(TURNS[0])) | change).encode()
    (found,) = failures_of(tmp_path, listed(MEMBERS | {CONTENT: raw}))
    assert found.startswith(f"{CONTENT}: ")
    assert reason in found


def test_the_length_is_part_of_the_commitment(tmp_path: Path) -> None:
    log = Log()
    log.bodies[8]["facts"]["answer"]["chars"] += 1
    (found,) = failures_of(tmp_path, log.members())
    assert "answer_text is not the text" in found


def test_a_text_that_no_event_commits_to_is_refused(tmp_path: Path) -> None:
    stranger = TURNS[0].replace("4000", "4001")
    for turn_id, what in ((stranger, "its question"), (TURNS[2], "its answer_text")):
        (found,) = failures_of(tmp_path, listed(MEMBERS | {f"content/{turn_id}.json": content(turn_id)}))
        assert f"no event of the export commits to {what}" in found


def test_a_content_without_texts_is_of_no_use_to_a_turn_that_is_not_there(tmp_path: Path) -> None:
    stranger = TURNS[0].replace("4000", "4001")
    raw = content(stranger, question="", answer_text="")
    (found,) = failures_of(tmp_path, listed(MEMBERS | {f"content/{stranger}.json": raw}))
    assert "no event of the export commits to its question" in found


def test_a_report_of_failures_vouches_for_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path / "export.zip", MEMBERS | {EVENT: MEMBERS[EVENT] + b" "})
    status, output = run(SCRIPT, path)
    assert status == 1
    assert "  000000000008  DOES NOT HOLD\n" in output
    assert f"FAILURE  {EVENT}: is not the file that manifest.json lists" in output
    assert output.endswith("\nDOES NOT HOLD: 3 failures.\n")
    assert "The log shows" not in output


def test_a_turn_that_ended_without_an_answer_may_show_its_question(tmp_path: Path) -> None:
    raw = content(TURNS[2], answer_text="")
    path = packed(tmp_path / "export.zip", listed(MEMBERS | {f"content/{TURNS[2]}.json": raw}))
    status, output = run(SCRIPT, path)
    assert (status, f"{TURNS[2]}  question as committed to" in output) == (0, True)


# The manifest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "onesource-evidence/2"}, "this program knows onesource-evidence/1"),
        ({"format": 1}, "format must be str"),
        ({"origin": "elsewhere.example/log"}, "origin"),
        ({"turns": TURNS[:2]}, "turns are not those"),
        ({"turns": [*TURNS, "x"]}, "turns are not those"),
        ({"turns": [*TURNS, TURNS[0]]}, "turns are not those"),
        ({"turns": None}, "turns must be list"),
    ],
)
def test_a_manifest_that_contradicts_the_export_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    found = failures_of(tmp_path, listed(MEMBERS, **change))
    assert found[0].startswith("manifest.json: ")
    assert reason in found[0]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"a":1,"a":1}', b"\xef\xbb\xbf{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, raw: bytes) -> None:
    assert failures_of(tmp_path, MEMBERS | {"manifest.json": raw})[0].startswith("manifest.json: ")


def test_a_manifest_does_not_list_itself(tmp_path: Path) -> None:
    manifest = json.loads(MEMBERS["manifest.json"])
    manifest["files"]["manifest.json"] = "0" * 64
    found = failures_of(tmp_path, MEMBERS | {"manifest.json": as_json(manifest)})
    assert found[0] == "manifest.json: lists itself"


# The script


def test_it_is_one_file_for_python_3_8_that_needs_cryptography_alone() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    assert {name.split(".")[0] for name in imported} - sys.stdlib_module_names == {"cryptography"}


def test_without_cryptography_it_says_what_to_install(export: Path) -> None:
    status, output = run(SCRIPT, export, python=("-I", "-S"))
    assert (status, output) == (2, "verify.py needs the Python package cryptography: pip install cryptography\n")


def test_a_report_has_nothing_that_a_terminal_would_obey(tmp_path: Path) -> None:
    log = Log(exported=(7, 8, 9, 255, 299))
    log.bodies[299] |= {"kind": "x\x1b[2Jy", "stream": "a\u202eb\nHOLDS."}
    path = packed(tmp_path / "export.zip", log.members())
    status, output = run(SCRIPT, path)
    assert status == 0
    assert "x\\u001b[2Jy  a\\u202eb\\u000aHOLDS.  299\n" in output


def test_a_terminal_that_knows_ascii_only_gets_the_report_too(tmp_path: Path) -> None:
    log = Log()
    log.bodies[299]["kind"] = "prüfung"
    path = packed(tmp_path / "export.zip", log.members())
    status, output = run(SCRIPT, path, python=("-I", "-X", "utf8=0"), LC_ALL="POSIX")
    assert (status, "pr\\xfcfung" in output or "prüfung" in output) == (0, True)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stream):
        patch.setattr(sys, "argv", ["verify.py", str(path)])
        assert verify.main() == 0
    stream.flush()
    assert b"pr\\xfcfung" in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_its_proofs_agree_with_the_log_s_at_all_sizes() -> None:
    leaves = [leaf_hash(b"%d" % index) for index in range(70)]

    def subtree(level: int, index: int) -> bytes:
        return root(leaves[index << level : (index + 1) << level])

    frontier = Frontier()
    roots = [frontier.root()]
    for leaf in leaves:
        frontier.append(leaf)
        roots.append(frontier.root())
    for size in range(1, 71):
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            assert verify.root_by_inclusion(leaves[index], index, size, proof) == roots[size]
            proof = consistency_proof(index + 1, size, subtree)
            shown = verify.roots_by_consistency(index + 1, size, proof, roots[index + 1])
            assert shown == (roots[index + 1], roots[size])
