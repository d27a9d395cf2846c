from itertools import count
from pathlib import Path

import pytest

from knowledge.index import snapshot_forget
from knowledge.services import document_ingest


@pytest.fixture
def ingested(db, tmp_path):
    """ingested(text) reads a Markdown file and makes it known at once."""
    numbers = count()

    def ingest(text: str, name: str = "") -> Path:
        path = tmp_path / (name or f"document-{next(numbers)}.md")
        path.write_text(text, "utf-8")
        document_ingest(path)
        snapshot_forget()
        return path

    return ingest
