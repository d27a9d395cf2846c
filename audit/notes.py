"""C2SP signed notes with Ed25519, and the checkpoints of C2SP tlog-checkpoint that are signed that way.

A note is a text, an empty line, and signature lines `— name base64(key id || signature)`. A verifier key (vkey) is
`name+key id in hex+base64(algorithm || public key)`. ECDSA, cosignatures and ML-DSA have other algorithm bytes.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.merkle import HASH_BYTES

ED25519 = 0x01
KEY_BYTES = 32
KEY_ID_BYTES = 4
SIGNATURE_START = "— "

# A note comes from outside: both limits are far above what a log and its witnesses make.
NOTE_LIMIT = 1_000_000
SIGNATURES_LIMIT = 100

# 18 digits fit a database's 64 bits.
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


class NoteError(ValueError):
    """A note, or the checkpoint in it, that is malformed or not signed as it should be."""


class VkeyError(ValueError):
    """A verifier key that is malformed, contradicts its key id, or is for an algorithm other than Ed25519."""


def key_id(name: str, public_key: bytes) -> bytes:
    """4 bytes: SHA-256(name || newline || algorithm || public key), cut off."""
    return sha256(name.encode() + b"\n" + bytes([ED25519]) + public_key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Verifier:
    name: str
    public_key: bytes

    @classmethod
    def parse(cls, vkey: str) -> "Verifier":
        """Raises VkeyError."""
        # The base64 may hold a plus as well; a name may not.
        name, _, rest = vkey.partition("+")
        hex_id, _, encoded = rest.partition("+")
        if not _is_name(name):
            raise VkeyError("a vkey must be name+key id+key, with no space or plus in the name")
        key = _decoded(encoded)
        if not re.fullmatch("[0-9a-f]{8}", hex_id) or not key:
            raise VkeyError(f"the vkey of {name} needs a key id of 8 hex digits and a key in base64")
        if key[0] != ED25519:
            raise VkeyError(f"the vkey of {name} is for algorithm 0x{key[0]:02x}; only Ed25519 (0x01) is known here")
        if len(key) != 1 + KEY_BYTES:
            raise VkeyError(f"the vkey of {name} has a key of {len(key) - 1} bytes; Ed25519 has {KEY_BYTES}")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != hex_id:
            raise VkeyError(f"the vkey of {name} says key id {hex_id}; its key has {verifier.key_id.hex()}")
        return verifier

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.public_key)

    @property
    def vkey(self) -> str:
        encoded = base64.b64encode(bytes([ED25519]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """Signs under `name` with an Ed25519 seed of 32 bytes. Raises NoteError for another name or seed."""

    def __init__(self, name: str, seed: bytes) -> None:
        if not _is_name(name):
            raise NoteError(f"{name!r} cannot name a key: it must not be empty or hold spaces, pluses or controls")
        if len(seed) != KEY_BYTES:
            raise NoteError(f"an Ed25519 seed has {KEY_BYTES} bytes, not {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        return self.verifier.name

    @property
    def vkey(self) -> str:
        return self.verifier.vkey

    def sign(self, text: str) -> str:
        """The note; `text` must end in a newline. Raises NoteError for control characters."""
        _check_characters(text)
        if not text.endswith("\n"):
            raise NoteError("the text of a note must end in a newline")
        signature = base64.b64encode(self.verifier.key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n{SIGNATURE_START}{self.name} {signature}\n"


def note_open(note: str, verifiers: Iterable[Verifier]) -> tuple[str, list[str]]:
    """The text, with its last newline, and the names of the keys whose signatures verify, each once.

    Signatures of unknown keys are skipped. Raises NoteError if a known key's signature is wrong, if none is by a known
    key, and for anything that is not a note.
    """
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise NoteError(f"two keys named {verifier.name} have the id {verifier.key_id.hex()}")
    text, signatures = _parsed(note)
    names: list[str] = []
    for name, sign_key_id, signature in signatures:
        signed_by = known.get((name, sign_key_id))
        if signed_by is None:
            continue
        if not signed_by.verifies(text, signature):
            raise NoteError(f"the signature of {name} (key id {sign_key_id.hex()}) is wrong")
        if name not in names:
            names.append(name)
    if not names:
        raise NoteError("the note is not signed by any known key")
    return text, names


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: its origin, size and root. Raises NoteError for what no checkpoint can say."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        _check_characters(self.origin)
        if not self.origin or "\n" in self.origin:
            raise NoteError("the origin of a checkpoint must be one line")
        if not _SIZE.fullmatch(str(self.size)):
            raise NoteError(f"a checkpoint cannot have the size {self.size}")
        if len(self.root) != HASH_BYTES:
            raise NoteError(f"the root of a checkpoint must have {HASH_BYTES} bytes, not {len(self.root)}")

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Raises NoteError; also for extension lines, which nobody could audit."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("a checkpoint must have three lines: origin, size and root")
        origin, size, encoded, _ = lines
        if not _SIZE.fullmatch(size):
            raise NoteError("the size of a checkpoint must be a decimal number without leading zeros")
        root = _decoded(encoded)
        if root is None:
            raise NoteError("the root of a checkpoint must be in base64")
        return cls(origin, int(size), root)


def _parsed(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text and (name, key id, signature) of each signature line."""
    if len(note) > NOTE_LIMIT:
        raise NoteError(f"the note has more than {NOTE_LIMIT} characters")
    _check_characters(note)
    text, separator, signed = note.rpartition("\n\n")
    if not separator or not signed.endswith("\n"):
        raise NoteError("a note must be a text, an empty line and lines of signatures")
    lines = signed[:-1].split("\n")
    if len(lines) > SIGNATURES_LIMIT:
        raise NoteError(f"the note has more than {SIGNATURES_LIMIT} signatures")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, separator, encoded = line[len(SIGNATURE_START) :].partition(" ")
    signature = _decoded(encoded)
    if not line.startswith(SIGNATURE_START) or not separator or not _is_name(name):
        raise NoteError("a line of signatures must be a dash, a key's name and a signature")
    if signature is None or len(signature) <= KEY_ID_BYTES:
        raise NoteError(f"the signature of {name} must be a key id and a signature in base64")
    return name, signature[:KEY_ID_BYTES], signature[KEY_ID_BYTES:]


def _is_name(name: str) -> bool:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        return False
    return _is_utf8(name)


def _check_characters(text: str) -> None:
    if any(character < " " and character != "\n" for character in text) or not _is_utf8(text):
        raise NoteError("a note must be UTF-8 and have no control characters but newlines")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(encoded: str) -> bytes | None:
    """None unless it is what base64 makes of some bytes: Python's decoder forgives stray bits at the end."""
    try:
        value = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return value if base64.b64encode(value).decode() == encoded else None
