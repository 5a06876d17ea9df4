"""How often an address may knock at the doors that are open to everyone."""

import time
from typing import Final

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

SIGN_INS: Final = (30, 60)
"""Attempts to sign in from one address, in how many seconds."""


def is_too_often(request: HttpRequest, door: str, limit: int, seconds: int) -> bool:
    """Count a request at `door`; True from the one beyond `limit` on, until the next `seconds` begin.

    Counted per client address, in the cache: by each web process for itself unless there is a Redis.
    """
    from axes.helpers import get_client_ip_address  # needs the apps, which this module is loaded before

    key = f"door:{door}:{get_client_ip_address(request)}:{int(time.time()) // seconds}"
    cache.add(key, 0, seconds)
    try:
        return cache.incr(key) > limit
    except ValueError:  # it ran out this very moment
        return False


def too_often(request: HttpRequest, seconds: int) -> HttpResponse:
    response = render(request, "accounts/too_often.html", status=429)
    response["Retry-After"] = str(seconds)
    return response
