"""`manage.py knowledge ingest`: every format from a real file, and what untrusted files may try."""

import io
import zipfile
from pathlib import Path

import docx
import pypdf
import pytest
from django.core.management import CommandError, call_command
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from knowledge import extraction, readers, selectors, services
from knowledge.extraction import ExtractionError, document_extract
from knowledge.models import Document, Passage


def pieces(path):
    return [(piece.heading, piece.text) for piece in document_extract(path).pieces]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pdf_made(path: Path, *lines: str, password: str = "") -> Path:
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(width=400, height=400)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
    )
    stream = DecodedStreamObject()
    drawn = " ".join(f"({line}) Tj 0 -20 Td" for line in lines)
    stream.set_data(f"BT /F1 12 Tf 20 350 Td {drawn} ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="AES-256")
    with path.open("wb") as file:
        writer.write(file)
    return path


def docx_made(path: Path) -> Path:
    document = docx.Document()
    document.add_heading("Site manual", 1)
    document.add_heading("Gates", 2)
    document.add_paragraph("Gates swing outward under H7D2.")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Height", "1.2 m"
    document.save(path)
    return path


class TestFormats:
    def test_markdown(self, tmp_path):
        path = written(
            tmp_path / "a.md",
            "# Manual\n\nIntro.\n\n## Gates\n\nGates *swing* out.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        )

        assert pieces(path) == [("Manual", "Intro."), ("Manual > Gates", "Gates swing out.\na | b\n1 | 2")]

    def test_text(self, tmp_path):
        path = written(tmp_path / "a.txt", "PART ONE\n\n1.2 Gates and latches\n\nGates swing\noutward.\n")

        assert pieces(path) == [("PART ONE > 1.2 Gates and latches", "Gates swing outward.")]

    def test_html(self, tmp_path):
        page = "<html><head><title>x</title><style>p{}</style></head><body><h1>Manual</h1><script>steal()</script>"
        page += "<p>Gates &amp; latches<br>swing.</p><table><tr><td>a</td><td>b</td></tr></table></body></html>"

        assert pieces(written(tmp_path / "a.html", page)) == [("Manual", "Gates & latches\nswing.\na | b")]

    def test_pdf(self, tmp_path):
        path = pdf_made(tmp_path / "a.pdf", "SITE MANUAL", "Gates swing outward.")

        assert pieces(path) == [("SITE MANUAL", "Gates swing outward.")]

    def test_docx(self, tmp_path):
        path = docx_made(tmp_path / "a.docx")

        assert pieces(path) == [("Site manual > Gates", "Gates swing outward under H7D2.\nHeight | 1.2 m")]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
    def test_encodings(self, tmp_path, encoding):
        path = written(tmp_path / "a.txt", "Ramps \u2013 1:14, \u00bd m".encode(encoding))

        assert pieces(path) == [("", "Ramps \u2013 1:14, \u00bd m")]


class TestPieces:
    def test_long_text_is_cut_at_sentences_and_nothing_is_lost(self, tmp_path):
        text = " ".join(f"Sentence number {number} is here." for number in range(300))

        found = document_extract(written(tmp_path / "a.txt", text)).pieces

        assert max(len(piece.text) for piece in found) <= extraction.LONGEST_PASSAGE
        assert " ".join(piece.text for piece in found).split() == text.split()

    def test_a_word_without_end_is_cut(self, tmp_path):
        found = document_extract(written(tmp_path / "a.txt", "x" * 5000)).pieces

        assert "".join(piece.text for piece in found) == "x" * 5000

    def test_null_bytes_do_not_reach_the_database(self, tmp_path):
        text = "Gates swing out. " * 200 + "\x00"

        assert "\x00" not in document_extract(written(tmp_path / "a.txt", text)).pieces[-1].text


class TestBadFiles:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.txt", b"", "is empty"),
            ("a.txt", b"\x00\x01\x02\x03" * 100, "is not text"),
            ("a.txt", b"\xff\xfe\x00\xd8\x00", "is not text"),
            ("a.exe", b"MZ", "not a kind that can be read"),
            ("a.pdf", b"%PDF-1.7 garbage", "not a PDF that can be read"),
            ("a.pdf", b"hello", "not a PDF that can be read"),
            ("a.docx", b"hello", "not a ZIP archive"),
            ("a.docx", b"PK\x03\x04 broken", "not a ZIP archive"),
            ("a.html", b"<html><script>only()</script></html>", "holds no text"),
        ],
    )
    def test_a_clear_reason(self, tmp_path, name, content, reason):
        with pytest.raises(ExtractionError, match=reason):
            document_extract(written(tmp_path / name, content))

    def test_encrypted_pdf(self, tmp_path):
        with pytest.raises(ExtractionError, match="is encrypted"):
            document_extract(pdf_made(tmp_path / "a.pdf", "Secret", password="secret"))

    def test_pdf_cut_off(self, tmp_path):
        path = pdf_made(tmp_path / "a.pdf", "SITE MANUAL", "Gates swing outward.")
        path.write_bytes(path.read_bytes()[:300])

        with pytest.raises(ExtractionError, match="not a PDF that can be read"):
            document_extract(path)

    def test_zip_bomb(self, tmp_path):
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("word/document.xml", b"0" * 60_000_000)

        with pytest.raises(ExtractionError, match="unpacks to far more"):
            document_extract(written(tmp_path / "a.docx", bomb.getvalue()))

    def test_zip_without_a_document(self, tmp_path):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("readme.txt", "hello")

        with pytest.raises(ExtractionError, match="no document in the archive"):
            document_extract(written(tmp_path / "a.docx", archive.getvalue()))

    def test_docx_with_broken_xml(self, tmp_path):
        broken = io.BytesIO()
        with zipfile.ZipFile(docx_made(tmp_path / "good.docx")) as good, zipfile.ZipFile(broken, "w") as made:
            for name in good.namelist():
                made.writestr(name, b"<w:document" if name == "word/document.xml" else good.read(name))

        with pytest.raises(ExtractionError, match="not a DOCX that can be read"):
            document_extract(written(tmp_path / "a.docx", broken.getvalue()))

    def test_huge_file(self, tmp_path):
        path = tmp_path / "a.txt"
        with path.open("wb") as file:
            file.truncate(extraction.LARGEST_FILE + 1)

        with pytest.raises(ExtractionError, match="over the limit of 50 MB"):
            document_extract(path)

    def test_too_much_text(self, tmp_path, monkeypatch):
        monkeypatch.setattr(extraction, "LARGEST_TEXT", 100)

        with pytest.raises(ExtractionError, match="million characters"):
            document_extract(written(tmp_path / "a.txt", "word " * 100))

    def test_too_many_pages(self, tmp_path, monkeypatch):
        monkeypatch.setattr(readers, "MOST_PAGES", 0)

        with pytest.raises(ExtractionError, match="pages, over the limit"):
            document_extract(pdf_made(tmp_path / "a.pdf", "Hello"))

    def test_a_folder_and_a_missing_file(self, tmp_path):
        with pytest.raises(ExtractionError, match="cannot be opened"):
            document_extract(tmp_path / "missing.txt")


@pytest.mark.django_db
class TestService:
    def test_passages_with_heading_clause_and_source(self, tmp_path):
        path = docx_made(tmp_path / "a.docx")

        services.document_ingest(path)

        passage = Passage.objects.get(document__source=str(path))
        assert (passage.heading, passage.reference, passage.clauses) == ("Site manual > Gates", "H7D2", ["H7D2"])
        assert passage.document.kind == Document.Kind.INGESTED

    def test_again_changes_nothing(self, tmp_path):
        path = docx_made(tmp_path / "a.docx")
        services.document_ingest(path)
        before = (selectors.index_version(), list(Passage.objects.values_list("pk", flat=True)))

        assert services.document_ingest(path).changed is False
        assert (selectors.index_version(), list(Passage.objects.values_list("pk", flat=True))) == before

    def test_a_changed_file_replaces_its_passages(self, tmp_path):
        path = written(tmp_path / "a.md", "# One\n\nOld text.\n")
        services.document_ingest(path)
        version = selectors.index_version()
        written(path, "# One\n\nNew text.\n")

        assert services.document_ingest(path).changed is True

        assert list(Passage.objects.filter(document__source=str(path)).values_list("text", flat=True)) == ["New text."]
        assert selectors.index_version() != version

    def test_a_bad_file_leaves_the_old_passages(self, tmp_path):
        path = written(tmp_path / "a.md", "# One\n\nOld text.\n")
        services.document_ingest(path)
        written(path, b"\x00\x01" * 500)

        with pytest.raises(ExtractionError):
            services.document_ingest(path)

        assert Passage.objects.filter(document__source=str(path), text="Old text.").exists()


@pytest.mark.django_db
class TestCommand:
    def run(self, *args):
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command("knowledge", "ingest", *map(str, args), stdout=out, stderr=err)
        except CommandError as error:
            return out.getvalue(), f"{err.getvalue()}{error}", 1
        return out.getvalue(), err.getvalue(), 0

    def test_a_folder(self, tmp_path):
        written(tmp_path / "a.md", "# A\n\nText.\n")
        written(tmp_path / "b.jpg", b"\xff\xd8")
        (tmp_path / "sub").mkdir()
        docx_made(tmp_path / "sub" / "c.docx")
        written(tmp_path / ".hidden.md", "# No\n\nText.\n")

        out, err, status = self.run(tmp_path)

        assert (status, err) == (0, "")
        assert "2 ingested, 0 unchanged, 1 skipped, 0 removed, 0 failed." in out
        assert f"Skipped {tmp_path / 'b.jpg'}" in out
        assert "0 ingested, 2 unchanged" in self.run(tmp_path)[0]

    def test_one_bad_file_does_not_stop_the_others(self, tmp_path):
        written(tmp_path / "a.pdf", b"nonsense")
        written(tmp_path / "b.md", "# B\n\nText.\n")

        out, err, status = self.run(tmp_path)

        assert status == 1
        assert "1 ingested, 0 unchanged, 0 skipped, 0 removed, 1 failed." in out
        assert f"{tmp_path / 'a.pdf'}: is not a PDF that can be read" in err

    def test_a_missing_path_fails(self, tmp_path):
        assert self.run(tmp_path / "nowhere.md")[2] == 1

    def test_an_empty_folder_fails(self, tmp_path):
        assert self.run(tmp_path)[2] == 1

    def test_a_vanished_file_is_forgotten_only_when_asked(self, tmp_path):
        path = written(tmp_path / "a.md", "# A\n\nText.\n")
        written(tmp_path / "b.md", "# B\n\nText.\n")
        self.run(tmp_path)
        path.unlink()

        self.run(tmp_path)
        assert Document.objects.filter(source=str(path)).exists()

        assert "1 removed" in self.run("--prune", tmp_path)[0]
        assert not Document.objects.filter(source=str(path)).exists()
        assert Document.objects.filter(source=str(tmp_path / "b.md")).exists()
        assert Document.objects.filter(kind=Document.Kind.PACK).exists()

    def test_a_link_out_of_the_folder_is_not_followed(self, tmp_path):
        outside = written(tmp_path / "outside.md", "# Secret\n\nText.\n")
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "link.md").symlink_to(outside)
        written(folder / "a.md", "# A\n\nText.\n")

        assert "1 ingested" in self.run(folder)[0]
