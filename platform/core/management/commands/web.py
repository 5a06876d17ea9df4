"""Serve pages, API and live updates on a socket that `up` has opened."""

import logging
import socket
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Serve on an open socket, passed by number. `up` runs this for you."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--fd", type=int, required=True)

    def handle(self, *args: Any, fd: int, **options: Any) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of every socket
        # Trusting X-Forwarded-* is decided by the settings (BEHIND_PROXY), not by who connects.
        config = uvicorn.Config(
            "config.asgi:application",
            ws="websockets-sansio",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=settings.BEHIND_PROXY,
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])
