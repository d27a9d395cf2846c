"""Signed notes and checkpoints, against the note published with the C2SP format and by its rules."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import EMPTY_ROOT
from audit.notes import Checkpoint, NoteError, Signer, Verifier, VkeyError, note_open
from tests.environment import ROOT

PUBLISHED: dict[str, Any] = json.loads((ROOT / "tests/vectors/rfc6962.json").read_text(encoding="utf-8"))["note"]
PUBLISHED_NOTE = f"{PUBLISHED['text']}\n— example.com/foo {PUBLISHED['signature']}\n"

SIGNER = Signer("onesource.example/log", bytes(range(32)))
OTHER = Signer("witness.example/w1", bytes(32))
SUCCESSOR = Signer("onesource.example/log", b"\x07" * 32)
TEXT = "onesource.example/log\n3\nan example\n"
NOTE = SIGNER.sign(TEXT)


def signature_line(note: str) -> str:
    return note.rpartition("\n\n")[2]


def vkey_of(name: str, key: bytes) -> str:
    key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(key).decode()}"


# The published note


def test_the_published_note_opens_with_the_published_key() -> None:
    verifier = Verifier.parse(PUBLISHED["vkey"])
    assert note_open(PUBLISHED_NOTE, [verifier]) == (PUBLISHED["text"], ["example.com/foo"])
    assert verifier.vkey == PUBLISHED["vkey"]


def test_the_published_note_with_another_text_does_not_open() -> None:
    with pytest.raises(NoteError, match="is wrong"):
        note_open(PUBLISHED_NOTE.replace("message", "massage"), [Verifier.parse(PUBLISHED["vkey"])])


# Keys


def test_a_signer_has_the_vkey_of_its_public_key() -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
    assert SIGNER.vkey == vkey_of("onesource.example/log", b"\x01" + public)
    assert Verifier.parse(SIGNER.vkey) == SIGNER.verifier


def test_a_signer_does_not_show_its_seed() -> None:
    assert bytes(range(32)).hex() not in repr(SIGNER) + repr(vars(SIGNER))


@pytest.mark.parametrize("algorithm", [0x02, 0x04, 0x05, 0x06, 0xFF])
def test_a_vkey_of_another_algorithm_says_which(algorithm: int) -> None:
    with pytest.raises(VkeyError, match=f"algorithm 0x{algorithm:02x}; only Ed25519"):
        Verifier.parse(vkey_of("log", bytes([algorithm]) + bytes(32)))


@pytest.mark.parametrize(
    ("vkey", "reason"),
    [
        ("", "must be name"),
        ("log", "needs a key id"),
        ("log+00000000", "needs a key id"),
        ("+00000000+AQ==", "must be name"),
        ("a log+00000000+AQ==", "must be name"),
        ("a\u2003log+00000000+AQ==", "must be name"),
        ("log\n+00000000+AQ==", "must be name"),
        (SIGNER.vkey + "\n", "needs a key id"),
        (SIGNER.vkey[:-2] + "!=", "needs a key id"),
        (vkey_of("log", b""), "needs a key id"),
        (vkey_of("log", b"\x01" + bytes(31)), "31 bytes"),
        (vkey_of("log", b"\x01" + bytes(33)), "33 bytes"),
        (SIGNER.vkey.replace("onesource", "twosource"), "its key has"),
        (vkey_of("log", b"\x01" + bytes(32)).replace("log+", "log+0"), "8 hex digits"),
    ],
)
def test_a_malformed_vkey_is_refused(vkey: str, reason: str) -> None:
    with pytest.raises(VkeyError, match=reason):
        Verifier.parse(vkey)


def test_a_key_id_in_capitals_is_not_the_one_of_the_note() -> None:
    name, key_id, key = SIGNER.vkey.split("+", 2)
    assert key_id.upper() != key_id
    with pytest.raises(VkeyError, match="8 hex digits"):
        Verifier.parse(f"{name}+{key_id.upper()}+{key}")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2028b", "a\nb", "a\x00b", "\ud800"])
def test_a_name_that_no_note_can_carry_is_refused(name: str) -> None:
    with pytest.raises(NoteError, match="cannot name a key"):
        Signer(name, bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(NoteError, match="32 bytes"):
        Signer("log", bytes(length))


# Notes


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n")))
def test_what_is_signed_opens(text: str) -> None:
    text += "\n"
    assert note_open(SIGNER.sign(text), [OTHER.verifier, SIGNER.verifier]) == (text, [SIGNER.name])


@pytest.mark.parametrize(
    "text", ["", "no newline", "tab\t\n", "null\x00\n", "return\r\n", "escape\x1b[31m\n", "\ud800\n"]
)
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError, match="newline"):
        SIGNER.sign(text)


def test_every_changed_byte_of_a_note_is_noticed() -> None:
    raw = NOTE.encode()
    for position in range(len(raw)):
        for bit in (0x01, 0x20):
            changed = raw[:position] + bytes([raw[position] ^ bit]) + raw[position + 1 :]
            try:
                note = changed.decode()
            except UnicodeDecodeError:
                continue
            with pytest.raises(NoteError):
                note_open(note, [SIGNER.verifier])


def test_signatures_of_unknown_keys_are_skipped() -> None:
    note = NOTE + signature_line(OTHER.sign("another text\n"))
    assert note_open(note, [SIGNER.verifier]) == (TEXT, [SIGNER.name])


def test_a_wrong_signature_of_a_known_key_is_not_made_good_by_a_right_one() -> None:
    note = NOTE + signature_line(OTHER.sign("another text\n"))
    with pytest.raises(NoteError, match=r"signature of witness.example/w1 .* is wrong"):
        note_open(note, [SIGNER.verifier, OTHER.verifier])


def test_each_key_that_signed_is_named_once() -> None:
    note = NOTE + signature_line(OTHER.sign(TEXT)) + signature_line(SUCCESSOR.sign(TEXT)) + signature_line(NOTE)
    keys = [SIGNER.verifier, OTHER.verifier, SUCCESSOR.verifier, SIGNER.verifier]
    assert note_open(note, keys) == (TEXT, [SIGNER.name, OTHER.name])


def test_a_key_of_the_same_name_is_told_apart_by_its_id() -> None:
    with pytest.raises(NoteError, match="not signed by any known key"):
        note_open(NOTE, [SUCCESSOR.verifier])


def test_a_note_of_an_unknown_key_or_without_keys_does_not_open() -> None:
    for verifiers in ([], [OTHER.verifier]):
        with pytest.raises(NoteError, match="not signed by any known key"):
            note_open(NOTE, verifiers)


def test_two_keys_with_one_name_and_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.notes.key_id", lambda name, public_key: b"same")
    with pytest.raises(NoteError, match="two keys"):
        note_open(NOTE, [SIGNER.verifier, SUCCESSOR.verifier])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        "\n\n",
        TEXT,
        TEXT + "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "x\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("— onesource.example/log ", "— "),
        NOTE.replace("— onesource.example/log ", "—  "),
        NOTE.replace("— onesource.example/log", "— onesource+example/log"),
        NOTE.replace("— onesource.example/log", "— onesource\u00a0example/log"),
        NOTE.replace("\n", "\r\n"),
        NOTE[:-1] + " \n",
        NOTE[:-2] + "\n",
        NOTE.replace("an example", "an\x7fexample\x01"),
        TEXT + "\n— onesource.example/log AAAAAA==\n",
        TEXT + "\n— onesource.example/log =\n",
        NOTE + "— x AAAA\n" * 100,
        "\ud800" + NOTE,
    ],
)
def test_what_is_not_a_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        note_open(note, [SIGNER.verifier])


def test_a_hundred_signatures_are_read_and_one_more_is_not() -> None:
    other = signature_line(OTHER.sign(TEXT))
    assert note_open(NOTE + other * 99, [SIGNER.verifier])[1] == [SIGNER.name]
    with pytest.raises(NoteError, match="more than 100"):
        note_open(NOTE + other * 100, [SIGNER.verifier])


def test_a_note_over_the_limit_is_refused_though_it_is_signed() -> None:
    with pytest.raises(NoteError, match="more than 1000000 characters"):
        note_open(SIGNER.sign("x" * 1_000_000 + "\n"), [SIGNER.verifier])


def test_the_text_ends_at_the_last_empty_line() -> None:
    text = f"before\n\n{signature_line(NOTE)}\nafter\n"
    assert note_open(SIGNER.sign(text), [SIGNER.verifier])[0] == text


def test_stray_bits_at_the_end_of_a_signature_are_refused() -> None:
    """68 bytes end in base64 with four bits that say nothing; a note must not have two spellings."""
    assert NOTE.endswith("=\n")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = last[last.index(NOTE[-3]) ^ 1]
    assert base64.b64decode(signature_line(NOTE).split()[2]) == base64.b64decode(
        (signature_line(NOTE)[:-3] + other + "=").split()[2]
    )
    with pytest.raises(NoteError, match="in base64"):
        note_open(NOTE[:-3] + other + "=\n", [SIGNER.verifier])


# Checkpoints


def test_a_checkpoint_has_three_lines() -> None:
    checkpoint = Checkpoint("onesource.example/log", 20852163, hashlib.sha256(b"root").digest())
    encoded = base64.b64encode(checkpoint.root).decode()
    assert checkpoint.text() == f"onesource.example/log\n20852163\n{encoded}\n"
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1),
    st.integers(0, 10**18 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_a_checkpoint_is_read_as_it_was_written(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    text, _ = note_open(SIGNER.sign(checkpoint.text()), [SIGNER.verifier])
    assert Checkpoint.parse(text) == checkpoint


ENCODED = base64.b64encode(EMPTY_ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"log\n3\n{ENCODED}",
        f"log\n3\n{ENCODED}\n\n",
        f"log\n3\n{ENCODED}\nextension\n",
        f"\n3\n{ENCODED}\n",
        f"log\n03\n{ENCODED}\n",
        f"log\n00\n{ENCODED}\n",
        f"log\n-3\n{ENCODED}\n",
        f"log\n+3\n{ENCODED}\n",
        f"log\n3 \n{ENCODED}\n",
        f"log\n3_0\n{ENCODED}\n",
        f"log\n٣\n{ENCODED}\n",
        f"log\n\n{ENCODED}\n",
        f"log\n{'9' * 19}\n{ENCODED}\n",
        "log\n3\n\n",
        f"log\n3\n{ENCODED[:-1]}\n",
        f"log\n3\n {ENCODED}\n",
        f"log\n3\n{ENCODED[:40]}\n",
        f"log\n3\n{base64.b64encode(bytes(33)).decode()}\n",
        f"log\n3\n{EMPTY_ROOT.hex()}\n",
        f"log\n3\n{ENCODED[:-2]}V=\n",
        f"lo\tg\n3\n{ENCODED}\n",
        f"log\r\n3\r\n{ENCODED}\r\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 1, EMPTY_ROOT), ("a\nb", 1, EMPTY_ROOT), ("a", -1, EMPTY_ROOT), ("a", 10**18, EMPTY_ROOT), ("a", 1, b"")],
)
def test_a_checkpoint_that_could_not_be_read_is_not_made(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(NoteError):
        Checkpoint(origin, size, root)
