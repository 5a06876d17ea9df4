"""Static files as browsers ask for them."""

import asyncio
import json
import warnings
from pathlib import Path

from django.core.files.base import ContentFile
from django.test import AsyncClient, override_settings

from core.static import ModuleManifestStorage

ROOT = Path(__file__).resolve().parents[2]
STYLE = ROOT / "static" / "css" / "fovea.css"


def test_a_file_is_sent_whole_in_part_or_not_again(client):
    whole = client.get("/static/css/fovea.css")
    assert (whole.status_code, whole.content) == (200, STYLE.read_bytes())
    assert whole["Content-Type"].startswith("text/css")
    part = client.get("/static/css/fovea.css", headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, STYLE.read_bytes()[2:6])
    assert client.get("/static/css/fovea.css", headers={"If-None-Match": whole["ETag"]}).status_code == 304
    assert client.head("/static/css/fovea.css").content == b""


def test_nothing_outside_is_served(client):
    for address in ("/static/../manage.py", "/static/%2e%2e/manage.py", "/static/css/", "/static/nothing.js"):
        assert client.get(address).status_code == 404


async def _get(address: str) -> bytes:
    return (await AsyncClient().get(address)).content


def test_under_asgi_no_file_is_complained_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(_get("/static/css/fovea.css")) == STYLE.read_bytes()


def test_collected_modules_import_each_other_by_their_fingerprinted_names(tmp_path):
    with override_settings(STATIC_ROOT=tmp_path):
        storage = ModuleManifestStorage(location=tmp_path)
        storage.save("a.js", ContentFile(b'import { b } from "./b.js";\nb();\n'))
        storage.save("b.js", ContentFile(b"export const b = () => {};\n"))
        for _ in storage.post_process({"a.js": (storage, "a.js"), "b.js": (storage, "b.js")}):
            pass
    names = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    assert names["b.js"] != "b.js"
    assert f'from "./{names["b.js"]}"' in (tmp_path / names["a.js"]).read_text()
