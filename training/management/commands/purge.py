"""Remove for good what was deleted some days ago. Workers do so by themselves (FOVEA_PURGE_DAYS)."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from training.purging import purge


class Command(BaseCommand):
    help = "Remove deleted datasets, jobs and training datasets for good, with their files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=settings.PURGE_DAYS, help="deleted at least so many days ago")

    def handle(self, *args: Any, days: int, **options: Any) -> None:
        if days < 0:
            raise CommandError("--days must not be negative.")
        counts = purge(timezone.now() - timedelta(days=days))
        self.stdout.write("Removed " + ", ".join(f"{count} {what}" for what, count in counts.items()) + ".")
