"""The ASGI application: HTTP by Django, websockets by Channels, and a lifespan that ends the relay of live updates."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
http = get_asgi_application()  # loads the apps: what follows needs them

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from core.body_limit import with_body_limit  # noqa: E402
from core.relay import relay  # noqa: E402
from core.routing import websocket_urlpatterns  # noqa: E402

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def _refuse(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 4404})


async def _sockets(scope: Message, receive: Receive, send: Send) -> None:
    known = scope["path"] in {f"/{route.pattern}" for route in websocket_urlpatterns}
    await (_live if known else _refuse)(scope, receive, send)


_live = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))
_router = ProtocolTypeRouter({"http": with_body_limit(http), "websocket": _sockets})


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await _router(scope, receive, send)
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            relay.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
