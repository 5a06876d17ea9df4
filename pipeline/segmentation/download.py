"""Checkpoints over the network: HTTPS alone, going on where an earlier attempt ended, hashed before they count."""

import hashlib
import ssl
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation.weights import Checkpoint, Progress

_CHUNK: Final = 1 << 20
_TIMEOUT_S: Final = 60


def checkpoint(wanted: Checkpoint, folder: Path, progress: Progress, token: str | None = None) -> None:
    """Bring the files of `wanted` into `folder`. Raises SegmenterUnavailableError saying what stood in the way."""
    folder.mkdir(parents=True, exist_ok=True)
    if wanted.url:
        file(wanted.url, folder / wanted.file, wanted.sha256.get(wanted.file, ""), progress)
    else:
        _from_hub(wanted, folder / wanted.folder, progress, token)


def file(url: str, target: Path, sha256: str, progress: Progress, context: ssl.SSLContext | None = None) -> None:
    """One file to `target`; what has come of it is kept in `<target>.part` until the whole is there and its SHA-256
    right (empty: any is)."""
    if target.is_file() and (not sha256 or _sha256(target) == sha256):
        progress(target.stat().st_size, target.stat().st_size)
        return
    part = target.with_name(target.name + ".part")
    try:
        _append(url, part, progress, context)
    except (OSError, urllib.error.URLError) as error:
        raise SegmenterUnavailableError(
            f"{target.name} cannot be fetched from {url}: {error}. What has come so far is kept; try again."
        ) from error
    if sha256 and _sha256(part) != sha256:
        part.unlink()
        raise SegmenterUnavailableError(
            f"{target.name}: what {url} gave does not have the SHA-256 {sha256[:12]}…; it was thrown away."
        )
    part.replace(target)


def _append(url: str, part: Path, progress: Progress, context: ssl.SSLContext | None) -> None:
    there = part.stat().st_size if part.exists() else 0
    if not url.startswith("https://"):
        raise urllib.error.URLError("only https:// addresses are fetched")
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310 - checked
    opener = urllib.request.build_opener(_OnlyHttps(), urllib.request.HTTPSHandler(context=context))
    try:
        response = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:  # nothing is left to send
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as stream:
        if response.status != 206:
            there = 0
        length = int(response.headers.get("Content-Length") or 0)
        _copy(response, stream, there, there + length if length else 0, progress)


def _copy(response: Any, stream: IO[bytes], there: int, total: int, progress: Progress) -> None:
    while chunk := response.read(_CHUNK):
        stream.write(chunk)
        there += len(chunk)
        progress(there, total)
    if total and there < total:
        raise urllib.error.URLError(f"the connection ended after {there:,} of {total:,} bytes")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError("it redirects to an address that is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _from_hub(wanted: Checkpoint, folder: Path, progress: Progress, token: str | None) -> None:
    if find_spec("huggingface_hub") is None:
        raise SegmenterUnavailableError(
            f"{wanted.name} comes from the model hub: install the extra `sam` (it brings huggingface_hub), or put "
            f"{wanted.places} into place by hand."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    for done, name in enumerate(wanted.folder_files):
        try:
            hf_hub_download(wanted.repository, name, local_dir=folder, token=token)
        except GatedRepoError as error:
            raise SegmenterUnavailableError(
                f"{wanted.name}: its makers must grant your account access first, at "
                f"https://huggingface.co/{wanted.repository}; then set HF_TOKEN to a token of that account."
            ) from error
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise SegmenterUnavailableError(
                f"{wanted.name}: {name} cannot be fetched from {wanted.repository}: {reason} Try again to go on."
            ) from error
        progress(done + 1, len(wanted.folder_files))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
