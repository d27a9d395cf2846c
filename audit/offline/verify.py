#!/usr/bin/env python3
"""Verifies an evidence export of ONESource: python verify.py [FILE.zip or folder] [--vkey VKEY ...]

Needs Python 3.8 or later and the package `cryptography`, and nothing of ONESource: it goes into every export, as one
file. Without a path it verifies the export that it lies in. Exit status: 0 if everything holds, 1 if something does
not, 2 if it could not run.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import io
import json
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.stderr.write("verify.py needs the Python package cryptography: pip install cryptography\n")
    sys.exit(2)

FORMAT = "onesource-evidence/1"
TOTAL_LIMIT = 1 << 30
FILES_LIMIT = 1_000_000
TURN_KINDS = ("turn.started", "turn.completed", "turn.aborted")
BODY_KEYS = {"v": int, "uid": str, "at": str, "kind": str, "stream": str, "seq": int, "actor": str, "facts": dict}
NAMES = {
    "events": r"events/([0-9]{12})\.json",
    "proofs": r"proofs/([0-9]{12})\.json",
    "checkpoints": r"checkpoints/(0|[1-9][0-9]{0,17})\.txt",
    "consistency": r"consistency/(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})\.json",
    "content": r"content/([0-9a-f-]{36})\.json",
}
# What reading a damaged ZIP file can raise, by the documentation and the source of zipfile and zlib.
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, IndexError)


class Failure(Exception):
    """Something that does not hold, in words for the report."""


@dataclass
class Report:
    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        self.lines.append(line)

    def attempt(self, name: str, check: Callable[..., Any], *args: Any) -> Any:
        """What the check returns; None if it fails, which is then on record under `name`."""
        try:
            return check(*args)
        except Failure as failure:
            self.failures.append(f"{name}: {failure}")
            return None


# Files


@dataclass
class Export:
    """The files of an export by name; `read` raises Failure."""

    names: frozenset[str]
    reader: Callable[[str], bytes]

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise Failure("is missing")
        try:
            return self.reader(name)
        except UNREADABLE as error:
            raise Failure(f"cannot be read ({error})") from None

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError:
            raise Failure("is not UTF-8") from None

    def matching(self, folder: str) -> list[re.Match[str]]:
        found = (re.fullmatch(NAMES[folder], name) for name in sorted(self.names))
        return [match for match in found if match]


def export_open(path: Path) -> Export:
    try:
        return folder_open(path) if path.is_dir() else zip_open(path)
    except UNREADABLE as error:
        raise Failure(f"cannot be opened ({error})") from None


def zip_open(path: Path) -> Export:
    if path.stat().st_size > TOTAL_LIMIT:
        raise Failure(f"has more than {TOTAL_LIMIT} bytes")
    archive = zipfile.ZipFile(path)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.orig_filename != info.filename or stat.S_ISLNK(info.external_attr >> 16):
            raise Failure(f"{info.orig_filename!r} is a link or has a name that systems read differently")
        if info.is_dir() and not info.file_size:
            check_name(info.filename[:-1])
        elif info.filename in members or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Failure(f"{info.filename} is there twice, or packed in an unusual way")
        else:
            members[info.filename] = info
    check_sizes({name: info.file_size for name, info in members.items()})

    def read(name: str) -> bytes:
        # The length in the directory, of which the limit was checked, also ends the unpacking.
        return archive.read(members[name])

    return Export(frozenset(members), read)


def folder_open(path: Path) -> Export:
    if not (path / "manifest.json").is_file():
        raise Failure("holds no manifest.json, so it is no export")

    def stop(error: OSError) -> None:
        raise error

    sizes: dict[str, int] = {}
    for parent, folders, files in os.walk(path, onerror=stop):
        for name in folders + files:
            member = Path(parent, name)
            status = member.lstat()
            if stat.S_ISREG(status.st_mode):
                sizes[member.relative_to(path).as_posix()] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise Failure(f"{member.relative_to(path).as_posix()} is neither a file nor a folder")
    check_sizes(sizes)
    return Export(frozenset(sizes), lambda name: (path / name).read_bytes())


def check_sizes(sizes: dict[str, int]) -> None:
    if len(sizes) > FILES_LIMIT:
        raise Failure(f"holds {len(sizes)} files; the limit is {FILES_LIMIT}")
    if sum(sizes.values()) > TOTAL_LIMIT:
        raise Failure(f"holds {sum(sizes.values())} bytes when unpacked; the limit is {TOTAL_LIMIT}")
    for name in sizes:
        check_name(name)
    if len({name.casefold() for name in sizes}) != len(sizes):
        raise Failure("holds two names that differ in capitals only")


def check_name(name: str) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")) or re.search(r"[\x00-\x1f\\:]", name):
        raise Failure(f"{name!r} is not a name that stays in its folder on every system")


def json_parse(raw: bytes) -> Any:
    """Raises Failure; also for names that occur twice in an object, which parsers read differently."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Failure(f"is not JSON ({error})") from None


def json_object(raw: bytes, keys: Mapping[str, type], only: bool = True) -> dict[str, Any]:
    """An object with these keys and types of values; `only` allows for no others. Raises Failure."""
    value = json_parse(raw)
    if not isinstance(value, dict) or not keys.keys() <= value.keys() or (only and len(value) != len(keys)):
        raise Failure(f"must be an object with {', '.join(keys)}")
    for key, kind in keys.items():
        # type() and not isinstance(): true is not a number here.
        if type(value[key]) is not kind:
            raise Failure(f"{key} must be {kind.__name__}")
    return value


def check_manifest(export: Export, report: Report) -> dict[str, Any]:
    raw = export.read("manifest.json")
    keys = {"format": str, "made_at": str, "origin": str, "files": dict, "turns": list, "note": str}
    manifest = json_object(raw, keys, only=False)
    if manifest["format"] != FORMAT:
        raise Failure(f"the format is {manifest['format']}; this program knows {FORMAT}")
    listed = manifest["files"]
    for name in sorted({*listed, *export.names} - {"manifest.json"}):
        report.attempt(name, check_file, export, name, listed.get(name))
    if "manifest.json" in listed:
        raise Failure("lists itself")
    return manifest


def check_file(export: Export, name: str, digest: Any) -> None:
    if digest is None:
        raise Failure("is not listed in manifest.json")
    if hashlib.sha256(export.read(name)).hexdigest() != digest:
        raise Failure("is not the file that manifest.json lists: its SHA-256 differs")
    folder = name.split("/")[0]
    if folder in NAMES and not re.fullmatch(NAMES[folder], name):
        raise Failure(f"is not a name for a file in {folder}")


# Signed checkpoints (C2SP signed-note and tlog-checkpoint)


@dataclass(frozen=True)
class Key:
    vkey: str
    name: str
    key_id: bytes
    public: bytes


@dataclass(frozen=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes
    signed_by: tuple[str, ...]


def key_parse(vkey: str) -> Key:
    name, _, rest = vkey.partition("+")
    hex_id, _, encoded = rest.partition("+")
    key = base64_parse(encoded)
    if not name or re.search(r"\s", name) or not re.fullmatch("[0-9a-f]{8}", hex_id) or not key:
        raise Failure(f"{vkey!r} is not a vkey (name+key id+key)")
    if key[0] != 1 or len(key) != 33:
        raise Failure(f"{vkey!r} is for algorithm 0x{key[0]:02x}; this program knows Ed25519 (0x01, 32 bytes)")
    key_id = hashlib.sha256(name.encode("utf-8", "replace") + b"\n" + key).digest()[:4]
    if key_id.hex() != hex_id:
        raise Failure(f"{vkey!r} has a key id that is not the one of its key, {key_id.hex()}")
    return Key(vkey, name, key_id, key[1:])


def base64_parse(encoded: str) -> bytes:
    """Empty for what is not base64 in its only spelling."""
    try:
        value = base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""
    return value if base64.b64encode(value).decode() == encoded else b""


def keys_trusted(export: Export, vkeys: list[str], report: Report) -> list[Key]:
    if vkeys:
        report.say("Keys: those given with --vkey; keys.txt was not used.")
        return [key_parse(vkey) for vkey in vkeys]
    lines = [line.strip() for line in export.text("keys.txt").split("\n")]
    keys = [key_parse(line) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise Failure("names no key")
    report.say("Keys: from keys.txt, which came with the export. Whoever made the export could have made them too.")
    report.say("      Compare with the keys that the operator publishes, or give those with --vkey:")
    for key in keys:
        report.say(f"      {key.vkey}")
    return keys


def checkpoint_read(export: Export, name: str, keys: list[Key]) -> Checkpoint:
    note = export.text(name)
    if re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise Failure("holds control characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise Failure("is not a signed note: a text, an empty line and signatures")
    known = {(key.name, key.key_id): key for key in keys}
    signed_by = []
    for line in signatures[:-1].split("\n"):
        match = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        signature = base64_parse(match[2]) if match else b""
        if not match or len(signature) <= 4:
            raise Failure("has a line of signatures that is none")
        key = known.get((match[1], signature[:4]))
        if key:
            check_signature(key, text + "\n", signature[4:])
            signed_by.append(f"{key.name} (key id {key.key_id.hex()})")
    if not signed_by:
        raise Failure("is not signed by any of the keys")
    lines = text.split("\n")
    if len(lines) != 3 or not lines[0] or not re.fullmatch("0|[1-9][0-9]{0,17}", lines[1]):
        raise Failure("must say origin, size and root in three lines")
    root = base64_parse(lines[2])
    if len(root) != 32:
        raise Failure("must have a root of 32 bytes in base64")
    return Checkpoint(lines[0], int(lines[1]), root, tuple(signed_by))


def check_signature(key: Key, text: str, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text.encode("utf-8"))
    except InvalidSignature:
        raise Failure(f"the signature of {key.name} (key id {key.key_id.hex()}) is wrong") from None


# Proofs (RFC 6962, section 2.1)


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """The largest power of two below `size` (2 or more)."""
    return 1 << ((size - 1).bit_length() - 1)


def root_by_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """The root that PATH(index, D[size]) leads to from the leaf hash. Raises Failure for one of another length."""
    if not 0 <= index < size:
        raise Failure(f"a log of size {size} has no event {index}")
    if (size == 1) != (not proof):
        raise Failure("the proof has another length than one for this index and size")
    if size == 1:
        return leaf
    left = split(size)
    if index < left:
        return node_hash(root_by_inclusion(leaf, index, left, proof[:-1]), proof[-1])
    return node_hash(proof[-1], root_by_inclusion(leaf, index - left, size - left, proof[:-1]))


def roots_by_consistency(old: int, new: int, proof: list[bytes], whole: bytes | None) -> tuple[bytes, bytes]:
    """The old and the new root that SUBPROOF(old, D[new], whole is not None) leads to; `whole` is the old root."""
    if not 0 < old <= new:
        raise Failure(f"nothing can be proved between the sizes {old} and {new}")
    least = 1 if old != new or whole is None else 0
    if len(proof) < least or (old == new and len(proof) > least):
        raise Failure("the proof has another length than one for these sizes")
    if old == new:
        start = proof[0] if whole is None else whole
        return start, start
    left = split(new)
    if old <= left:
        old_root, new_root = roots_by_consistency(old, left, proof[:-1], whole)
        return old_root, node_hash(new_root, proof[-1])
    old_root, new_root = roots_by_consistency(old - left, new - left, proof[:-1], None)
    return node_hash(proof[-1], old_root), node_hash(proof[-1], new_root)


def hashes_parse(values: list[Any]) -> list[bytes]:
    if not all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in values):
        raise Failure("the proof must have hashes of 32 bytes in hex")
    return [bytes.fromhex(value) for value in values]


# What the export shows


def check_consistency(export: Export, name: str, sizes: tuple[int, int], keys: list[Key], last: Checkpoint) -> None:
    """An earlier checkpoint and the proof that checkpoint.txt goes on from it."""
    proof = json_object(export.read(name), {"old": int, "new": int, "hashes": list})
    if (proof["old"], proof["new"]) != sizes or sizes[1] != last.size:
        raise Failure("is for other sizes than its name or checkpoint.txt has")
    earlier = checkpoint_earlier(export, sizes[0], keys, last)
    if roots_by_consistency(*sizes, hashes_parse(proof["hashes"]), earlier.root) != (earlier.root, last.root):
        raise Failure("does not lead from the earlier root to the one of checkpoint.txt: the log was rewritten")


def checkpoint_earlier(export: Export, size: int, keys: list[Key], last: Checkpoint) -> Checkpoint:
    if f"checkpoints/{size}.txt" not in export.names:
        raise Failure(f"checkpoints/{size}.txt is missing")
    earlier = checkpoint_read(export, f"checkpoints/{size}.txt", keys)
    if earlier.size != size or earlier.origin != last.origin:
        raise Failure(f"checkpoints/{size}.txt is of another size or log")
    return earlier


def check_history(export: Export, keys: list[Key], last: Checkpoint, report: Report) -> None:
    proved = set()
    for match in export.matching("consistency"):
        sizes = (int(match[1]), int(match[2]))
        report.attempt(match[0], check_consistency, export, match[0], sizes, keys, last)
        proved.add(sizes[0])
    for match in export.matching("checkpoints"):
        report.attempt(match[0], checkpoint_earlier, export, int(match[1]), keys, last)
        if int(match[1]) not in proved:
            report.failures.append(f"{match[0]}: no consistency proof shows that checkpoint.txt goes on from it")
        report.say(f"Earlier checkpoint: {match[1]} events")


def check_events(export: Export, checkpoint: Checkpoint, report: Report) -> list[dict[str, Any]]:
    report.say("Events (index, time, kind, stream, number in the stream):")
    found: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for digits in sorted({match[1] for folder in ("events", "proofs") for match in export.matching(folder)}):
        body = report.attempt(f"events/{digits}.json", check_event, export, digits, checkpoint)
        if body is None:
            report.say(f"  {digits}  DOES NOT HOLD")
            continue
        found.append(body)
        report.say(f"  {digits}  {body['at']}  {body['kind']}  {body['stream']}  {body['seq']}")
        for once in (f"uid {body['uid']}", f"number {body['seq']} of stream {body['stream']}"):
            if seen.setdefault(once, digits) != digits:
                report.failures.append(f"events/{digits}.json: {once} is also that of event {seen[once]}")
    if not found:
        report.failures.append("events: none is there that holds, so nothing is shown")
    return found


def check_event(export: Export, digits: str, checkpoint: Checkpoint) -> dict[str, Any]:
    raw = export.read(f"events/{digits}.json")
    try:
        proof = json_object(export.read(f"proofs/{digits}.json"), {"index": int, "size": int, "hashes": list})
    except Failure as failure:
        raise Failure(f"proofs/{digits}.json {failure}") from None
    if (proof["index"], proof["size"]) != (int(digits), checkpoint.size):
        raise Failure("its proof is for another index or size")
    hashes = hashes_parse(proof["hashes"])
    if root_by_inclusion(leaf_hash(raw), int(digits), checkpoint.size, hashes) != checkpoint.root:
        raise Failure("is not in the log at this index: the proof leads to another root than the signed one")
    body = json_object(raw, BODY_KEYS)
    try:
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        same = canonical.encode("utf-8") == raw
    except (ValueError, RecursionError):
        same = False
    if not same or body["v"] != 1:
        raise Failure("is not canonical JSON of version 1")
    return body


def check_turns(export: Export, listed: list[Any], events: list[dict[str, Any]], report: Report) -> None:
    turns: dict[str, list[dict[str, Any]]] = {}
    for body in events:
        if body["kind"] in TURN_KINDS:
            turns.setdefault(str(body["facts"].get("turn_id")), []).append(body["facts"])
    if sorted(map(str, listed)) != sorted(turns):
        report.failures.append("manifest.json: its turns are not those of the events")
    report.say("Texts of turns:")
    revealed = {match[1] for match in export.matching("content")}
    for turn_id in sorted({*turns, *revealed}):
        if turn_id not in revealed:
            report.say(f"  {turn_id}  content is not part of this export")
            continue
        name = f"content/{turn_id}.json"
        held = report.attempt(name, check_content, export, name, turn_id, turns.get(turn_id, []))
        report.say(f"  {turn_id}  {held or 'DOES NOT HOLD'}")


def check_content(export: Export, name: str, turn_id: str, facts: list[dict[str, Any]]) -> str:
    keys = {"turn_id": str, "question": str, "answer_text": str, "salt": str}
    content = json_object(export.read(name), keys, only=False)
    if content["turn_id"] != turn_id or not re.fullmatch("([0-9a-f]{2})+", content["salt"]):
        raise Failure("is of another turn, or its salt is not hex")
    salt = bytes.fromhex(content["salt"])
    held = []
    for fact, key in (("question", "question"), ("answer", "answer_text")):
        text = content[key]
        digest = hmac.new(salt, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        commitments = [each[fact] for each in facts if fact in each]
        if any(commitment != {"chars": len(text), "hmac": digest} for commitment in commitments):
            raise Failure(f"{key} is not the text that the event commits to")
        if commitments:
            held.append(fact)
        elif text or fact == "question":
            raise Failure(f"no event of the export commits to its {key}")
    return f"{' and '.join(held)} as committed to"


def check_export(path: Path, vkeys: list[str], report: Report) -> None:
    """Failures that leave more to check go into the report; after others Failure ends the checks."""
    export = export_open(path)
    manifest = report.attempt("manifest.json", check_manifest, export, report)
    keys = report.attempt("--vkey" if vkeys else "keys.txt", keys_trusted, export, vkeys, report)
    checkpoint = keys and report.attempt("checkpoint.txt", checkpoint_read, export, "checkpoint.txt", keys)
    if not manifest or not checkpoint:
        raise Failure("without a manifest, keys and a checkpoint that hold, nothing else can be checked")
    report.say(f"Made at {manifest['made_at']}, as its manifest says: {manifest['note']}")
    report.say(f"Checkpoint: {checkpoint.size} events of {checkpoint.origin}, root {checkpoint.root.hex()}")
    report.say(f"      signed by {', '.join(checkpoint.signed_by)}")
    if manifest["origin"] != checkpoint.origin:
        report.failures.append("manifest.json: its origin is not the one of checkpoint.txt")
    check_history(export, keys, checkpoint, report)
    events = check_events(export, checkpoint, report)
    check_turns(export, manifest["turns"], events, report)
    if not report.failures:
        say_limits(export, report)


def say_limits(export: Export, report: Report) -> None:
    backed = {"manifest.json", "keys.txt", "checkpoint.txt"}
    loose = sorted(name for name in export.names if name not in backed and name.split("/")[0] not in NAMES)
    report.say("The log shows that these events and texts were in it when the checkpoint was signed. It does not show")
    report.say(
        "that no others belong here. You have only the word of the export's maker for the fields of a text other"
    )
    report.say(f"than question, answer_text and salt, and for {', '.join(['manifest.json', *loose])}.")


def printable(line: str) -> str:
    """Without what a terminal would take for a command, or show in another order."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in line)


def main() -> int:
    parser = argparse.ArgumentParser(description="Verifies an evidence export of ONESource, offline.")
    parser.add_argument("path", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--vkey", action="append", default=[], help="a key to trust, in place of keys.txt")
    options = parser.parse_args()
    report = Report()
    report.say(f"Evidence export {options.path}")
    report.attempt(str(options.path), check_export, options.path, options.vkey, report)
    report.say()
    failures = list(dict.fromkeys(report.failures))
    for failure in failures:
        report.say(f"FAILURE  {failure}")
    if failures:
        report.say(f"DOES NOT HOLD: {len(failures)} failure{'s' * (len(failures) != 1)}.")
    else:
        report.say("HOLDS." if options.vkey else "HOLDS, if the keys above are the operator's.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write("".join(printable(line) + "\n" for line in report.lines))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
