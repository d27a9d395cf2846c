import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from knowledge import fitting, services
from knowledge.evaluation import ANSWERABLE_TARGET, DECLINED_TARGET, Answer, Outcome, evaluate
from knowledge.extraction import suffixes
from knowledge.index import snapshot_current
from knowledge.lexicon import DATA
from knowledge.pack import PackError
from knowledge.readers import ExtractionError
from knowledge.refusals import refusal
from knowledge.retrieval import judge

TESTS = Path(settings.BASE_DIR) / "tests" / "knowledge"


class Command(BaseCommand):
    help = "Loads, ingests and measures the knowledge base."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="task", required=True)
        commands.add_parser("load-pack", help="bring the starter pack into the database")
        ingest = commands.add_parser("ingest", help="read files or folders (Markdown, text, HTML, PDF, DOCX)")
        ingest.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        ingest.add_argument(
            "--prune", action="store_true", help="forget documents whose file is gone from a folder given"
        )
        evaluation = commands.add_parser("evaluate", help="measure the answers; exit 1 below the targets")
        evaluation.add_argument("file", nargs="?", type=Path, default=TESTS / "evaluation.json", metavar="FILE")
        evaluation.add_argument("--failures", action="store_true", help="show each question that went wrong")
        fit = commands.add_parser(
            "fit", help="fit the weights of ranking and acceptance, from the pack and a development file"
        )
        fit.add_argument("file", nargs="?", type=Path, default=TESTS / "development.json", metavar="FILE")
        fit.add_argument("--threshold", type=float, default=0.45, help="accept from this probability on")

    def handle(self, *args: Any, task: str, **options: Any) -> None:
        tasks: dict[str, Callable[..., None]] = {
            "load-pack": self.load_pack,
            "ingest": self.ingest,
            "evaluate": self.evaluate,
            "fit": self.fit,
        }
        tasks[task](**options)

    def load_pack(self, **options: Any) -> None:
        try:
            loaded = services.pack_load()
        except PackError as error:
            raise CommandError(f"The pack is not usable. {error}") from error
        state = (
            f"{loaded.changed} changed, {loaded.removed} removed"
            if loaded.changed or loaded.removed
            else "nothing changed"
        )
        # Here once, and kept on disk: each worker would otherwise learn the phrases when it starts.
        snapshot_current()
        self.stdout.write(f"{loaded.documents} documents of the starter pack, {state}.")

    def ingest(self, *, paths: list[Path], prune: bool, **options: Any) -> None:
        files, skipped = _files(paths)
        failed: list[tuple[Path, str]] = []
        counts = {True: 0, False: 0}
        for path in tqdm(files, unit="file", disable=not self.stderr.isatty()):
            try:
                counts[services.document_ingest(path).changed] += 1
            except ExtractionError as error:
                failed.append((path, str(error)))
        removed = sum(_prune(path, files) for path in paths if path.is_dir()) if prune else 0
        for path in skipped:
            self.stdout.write(f"Skipped {path}: not a kind that can be read.")
        for path, reason in failed:
            self.stderr.write(f"{path}: {reason}.")
        self.stdout.write(
            f"{counts[True]} ingested, {counts[False]} unchanged, {len(skipped)} skipped, {removed} removed, "
            f"{len(failed)} failed."
        )
        if failed or not files:
            raise CommandError("Not everything could be ingested." if failed else "There was nothing to ingest.")

    def evaluate(self, *, file: Path, failures: bool, **options: Any) -> None:
        outcome = evaluate(_items(file), judged, snapshot_current().references)
        self.show(outcome, failures=failures)
        if not outcome.passed:
            raise CommandError("Below the targets.")

    def show(self, outcome: Outcome, *, failures: bool) -> None:
        for group in sorted(outcome.counts):
            right, total = outcome.counts[group]
            self.stdout.write(f"{group:30} {right:4} of {total:4}  {right / total:7.1%}")
        for kind, target in (("answerable", ANSWERABLE_TARGET), ("unanswerable", DECLINED_TARGET)):
            self.stdout.write(f"{kind + ' in all':30} {outcome.ratio(kind):20.1%}  (target {target:.0%})")
        total = sum(count[1] for group, count in outcome.counts.items() if group.startswith("answerable/"))
        self.stdout.write(f"{'right note first':30} {outcome.first / total if total else 1:20.1%}")
        for why, count in outcome.reasons().most_common():
            self.stdout.write(f"{'  wrong: ' + why:30} {count:4}")
        self.stdout.write(f"{'answers naming unknown clauses':30} {outcome.invented:4}")
        if failures:
            for failure in outcome.failures:
                self.stdout.write(f"{failure.id} {failure.group}: {failure.question}\n    {failure.why}")

    def fit(self, *, file: Path, threshold: float, **options: Any) -> None:
        snapshot = snapshot_current()
        items = _items(file)
        asked = [(item["question"], item["facts"]) for item in items["answerable"]]
        asked += [(item["question"], []) for item in items["unanswerable"]]
        reader = snapshot.matcher.reader
        asked = [pair for pair in asked if not refusal(pair[0], reader.read(pair[0]), snapshot.references)]
        odds = fitting.aspect_odds(snapshot.matcher)
        examples = fitting.examples_left_out(snapshot.matcher, odds)
        examples += fitting.examples_asked(snapshot.matcher, odds, asked)
        self.stdout.write(f"Fitting to {len(examples)} questions; this takes some minutes.")
        fitted = fitting.fit(examples, odds, threshold)
        (DATA / "weights.json").write_text(json.dumps(fitted.stored(), indent=1) + "\n", "utf-8")
        self.stdout.write(f"Wrote {DATA / 'weights.json'}.")


def judged(question: str) -> Answer:
    """What an extractive answer would say: the notes, word for word."""
    verdict = judge(question)
    parts = [f"{found.title}\n{found.text}\n{found.reference}\n{found.caution}" for found in verdict.answers]
    return Answer("\n\n".join(parts), not verdict.answers, tuple(found.key for found in verdict.answers))


def _items(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        items: dict[str, list[dict[str, Any]]] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from error
    return items


def _files(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Files to read and files to skip: one named on its own is always tried, so that its failure is reported."""
    files: list[Path] = []
    skipped: list[Path] = []
    for path in paths:
        if path.is_dir():
            for found in _walk(path):
                (files if found.suffix.lower() in suffixes() else skipped).append(found)
        else:
            files.append(path)
    return list(dict.fromkeys(files)), skipped


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        # A link may lead out of the folder, or round in a circle.
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _prune(folder: Path, files: list[Path]) -> int:
    return services.documents_prune(sources_kept=[str(path.resolve()) for path in files], under=str(folder.resolve()))
