"""Model weights from the command line: what is here, what could use it, how to get the rest, whether it works."""

import json
import os
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from labeling.jobs import models_here, segmenters
from labeling.jobs.models_here import ModelFile
from pipeline.errors import PipelineError
from pipeline.segmentation import weights
from pipeline.segmentation.trial import attempt


class Command(BaseCommand):
    help = "List the model weights that are here and what could use them; get others; check that they load."
    requires_migrations_checks = False
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listed = actions.add_parser("list", help="what is here, what a job could use and why not, how to get the rest")
        listed.add_argument("--json", action="store_true", help="all of it as JSON")
        got = actions.add_parser("get", help="download weights, going on where an earlier attempt ended")
        got.add_argument("name", choices=list(weights.CATALOGUE), metavar="NAME", help=", ".join(weights.CATALOGUE))
        got.add_argument("--folder", type=Path, help="where to put them (default: the first of FOVEA_MODELS_DIR)")
        checked = actions.add_parser("check", help="verify hashes, and load each in a process of its own")
        checked.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
        checked.add_argument("--json", action="store_true")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        {"list": self._list, "get": self._get, "check": self._check}[action](options)

    def _list(self, options: dict[str, Any]) -> None:
        overview = models_here.overview()
        if options["json"]:
            self.stdout.write(json.dumps(overview, indent=2))
            return
        bold = self.style.MIGRATE_HEADING
        self.stdout.write(bold("Folders (FOVEA_MODELS_DIR)"))
        for folder in overview["folders"]:
            self.stdout.write(f"  {folder['path']}{'' if folder['exists'] else '  (does not exist yet)'}")
        self.stdout.write("\n" + bold("Weights"))
        rows = [
            (
                item["name"],
                f"{_megabytes(item['size_bytes']) if item['path'] else item['megabytes']:,} MB",
                item["licence"] + (", gated" if item["gated"] else ""),
                item["state"],
                item["sha256"][:12],
                item["path"],
            )
            for item in overview["checkpoints"]
        ]
        self._table(("name", "size", "licence", "", "SHA-256", "file"), rows, state=3)
        for item in overview["other_files"]:
            self.stdout.write(f"  other: {item['path']}, {_megabytes(item['size_bytes']):,} MB")
        for item in overview["checkpoints"]:
            if item["problem"]:
                self.stdout.write(self.style.ERROR(f"  {item['problem']}"))
        self.stdout.write("\n" + bold("Segmenters a job could use here"))
        for status in overview["segmenters"]:
            mark = self.style.SUCCESS("yes") if status["available"] else self.style.WARNING("no ")
            told = segmenters.HELP.get(status["name"], "")
            if not status["available"]:
                told = f"{status['reason']} {status['how_to_get']}"
            self._paragraph(f"  {mark}  {status['name']:<10} ", told, indent=17)
        self.stdout.write("\nGet weights: manage.py models get NAME. Prove that all here work: manage.py models check.")

    def _get(self, options: dict[str, Any]) -> None:
        name = options["name"]
        folder = (options["folder"] or settings.MODELS_FOLDERS[0]).resolve()
        known = weights.CATALOGUE[name]
        unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if known.url else {"unit": " file"}
        with tqdm(desc=f"→ {name}", disable=None, **unit) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            try:
                found = weights.fetch(name, folder, progress=progress, token=os.environ.get("HF_TOKEN"))
            except PipelineError as error:
                raise CommandError(str(error)) from error
        sha256 = weights.check(found, [folder])
        self.stdout.write(self.style.SUCCESS(f"{name} is in {found.weights} (SHA-256 {sha256})."))
        if folder not in settings.MODELS_FOLDERS:
            self.stdout.write(f"Add {folder} to FOVEA_MODELS_DIR, or it will not be found.")

    def _check(self, options: dict[str, Any]) -> None:
        chosen = self._chosen(options["names"])
        results = [_checked(item) for item in chosen]
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        elif not results:
            self.stdout.write("There are no weights here. `manage.py models list` says how to get them.")
        else:
            rows = [
                (
                    item["name"],
                    item["sha256"][:12],
                    "works" if item["ok"] else "fails",
                    f"{item['load_s']:.2f} s" if item["ok"] else "",
                    f"{item['frame_s']:.2f} s" if item["ok"] else "",
                )
                for item in results
            ]
            self._table(("name", "SHA-256", "", "to load", "a frame"), rows, state=2)
            for item in results:
                if item["error"]:
                    self._paragraph(f"  {item['name']}: ", item["error"], indent=4)
        if not all(item["ok"] for item in results):
            raise CommandError("Not all of it works.")

    def _chosen(self, names: Sequence[str]) -> list[ModelFile]:
        known = {item.name: item for item in models_here.model_files()}
        for name in names:
            if name not in known:
                raise CommandError(f"{name!r} is not one of {', '.join(known)}.")
            if not known[name].path:
                raise CommandError(f"{name} is not here. {known[name].how_to_get}")
        return [item for item in known.values() if (item.name in names if names else item.path)]

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[str]], state: int) -> None:
        """Columns as wide as what is in them; the one that says how it stands in colour."""
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        paint = {"here": self.style.SUCCESS, "works": self.style.SUCCESS, "damaged": self.style.ERROR}
        paint["fails"] = self.style.ERROR
        for number, row in enumerate((head, *rows)):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            if number == 0:
                cells = [self.style.HTTP_INFO(cell) for cell in cells]
            elif row[state] in paint:
                cells[state] = paint[row[state]](cells[state])
            self.stdout.write(("  " + "  ".join(cells)).rstrip())

    def _paragraph(self, head: str, text: str, indent: int) -> None:
        width = max(40, shutil.get_terminal_size().columns - indent - 1)
        lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
        self.stdout.write(head + f"\n{' ' * indent}".join(lines))


def _checked(item: ModelFile) -> dict[str, Any]:
    """{"name", "path", "sha256", "ok", "error", "load_s", "frame_s"}."""
    facts = {"name": item.name, "path": item.path, "sha256": item.sha256}
    if item.problem:
        return {**facts, "ok": False, "error": item.problem, "load_s": 0.0, "frame_s": 0.0}
    if not item.segmenter:
        error = "It is whole, but no segmenter of this version runs it."
        return {**facts, "ok": False, "error": error, "load_s": 0.0, "frame_s": 0.0}
    trial = attempt(item.segmenter, settings.MODELS_FOLDERS, item.size)
    return {**facts, "ok": not trial.error, "error": trial.error, "load_s": trial.load_s, "frame_s": trial.frame_s}


def _megabytes(size: int) -> int:
    return round(size / 1_000_000)
