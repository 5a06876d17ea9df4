"""Make the first administrator, once. Running it again changes nothing."""

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from accounts import services
from core.errors import ApplicationError


class Command(BaseCommand):
    help = "Make the administrator with the given e-mail address unless there is one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", default="admin@localhost.localdomain")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--password-file", type=Path, help="File whose first line is the password")
        source.add_argument(
            "--generate",
            action="store_true",
            help="Make a password, print it once and keep it in FOVEA_HOME/admin_password",
        )

    def handle(self, *args: Any, email: str, password_file: Path | None, generate: bool, **options: Any) -> None:
        try:
            password = secrets.token_urlsafe(15) if password_file is None else _first_line(password_file)
            user, is_new = services.ensure_admin(email=email, password=password)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except ApplicationError as error:
            raise CommandError(error.detail) from error
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(f"The database cannot be used ({error}). Run `manage.py migrate` first.") from error
        if not is_new:
            self.stdout.write(f"{user.email} is an administrator already.")
            return
        self.stdout.write(f"Made the administrator {user.email}.")
        if generate:
            kept = settings.HOME / "admin_password"
            kept.unlink(missing_ok=True)
            kept.touch(mode=0o600, exist_ok=False)
            kept.write_text(f"{user.email}\n{password}\n")
            self.stdout.write(f"Password: {password}\nIt is kept in {kept}, readable by you alone.")


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    if not lines or not lines[0].strip():
        raise CommandError(f"{path} holds no password in its first line.")
    return lines[0].strip()
