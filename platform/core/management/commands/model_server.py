"""Keep models loaded and answer clicks with masks, on a socket that a worker has opened."""

import logging
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from pipeline.segmentation.model_server import serve


class Command(BaseCommand):
    help = "Keep models warm on an open socket, passed by number. A worker runs this when somebody asks for masks."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fd", type=int, required=True)

    def handle(self, *args: Any, fd: int, **options: Any) -> None:
        logging.getLogger("pipeline").setLevel(logging.INFO)
        listener = socket.socket(fileno=fd)
        listener.setblocking(False)
        serve(listener, settings.JOBS_ROOT, settings.MODELS_FOLDERS, settings.MODELS_IDLE_SECONDS)
