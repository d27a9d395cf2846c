"""The starter pack on disk: its files, read and checked."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STARTER = Path(__file__).resolve().parent / "packs" / "starter"
_TEXTS = ("title", "text", "reference", "edition", "jurisdiction", "confidence")
_LISTS = ("clauses", "subjects", "aspects", "asked_as", "not_answered", "figures")


class PackError(ValueError):
    """A file of the pack that cannot be used; the message names the file and the note."""


@dataclass(frozen=True, slots=True)
class PackFile:
    source: str
    title: str
    licence: str
    content_hash: str
    notes: list[dict[str, Any]]


def pack_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pack_paths(folder: Path = STARTER) -> list[Path]:
    return sorted(folder.glob("*.json"))


def pack_read(path: Path) -> PackFile:
    raw = path.read_bytes()
    try:
        content = json.loads(raw)
        document, notes = content["document"], content["notes"]
        for note in notes:
            _check(path, note)
        return PackFile(
            source=document["source"],
            title=document["title"],
            licence=document["licence"],
            content_hash=hashlib.sha256(raw).hexdigest(),
            notes=notes,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(f"{path.name}: {error.__class__.__name__}: {error}") from error


def _check(path: Path, note: dict[str, Any]) -> None:
    for name in _TEXTS:
        if not isinstance(note[name], str) or not note[name]:
            raise PackError(f"{path.name}: note {note.get('id')}: {name} must be a text")
    for name in _LISTS:
        if not isinstance(note[name], list) or not all(isinstance(item, str) for item in note[name]):
            raise PackError(f"{path.name}: note {note.get('id')}: {name} must be a list of texts")


def pack_files(folder: Path = STARTER) -> Iterator[PackFile]:
    for path in pack_paths(folder):
        yield pack_read(path)
