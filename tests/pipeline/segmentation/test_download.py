"""Downloads from a real HTTPS server on this machine, with a certificate made for it."""

import hashlib
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import SegmenterUnavailableError
from pipeline.segmentation import download, weights

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT with ranges. /cut breaks off in the middle, /deaf ignores ranges, /away goes to http."""

    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/model")
            return self.end_headers()
        if self.path == "/absent":
            return self.send_error(404)
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.path != "/deaf" else 0
        self.server.asked.append(start)
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) // 2 if self.path == "/cut" and not start else len(CONTENT)
        self.wfile.write(CONTENT[start:end])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the server's certificate, is not here")
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "crt"), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return folder


@pytest.fixture
def server(certificate):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "crt", certificate / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def get(server, certificate, tmp_path):
    trusting = ssl.create_default_context(cafile=str(certificate / "crt"))

    def get(path="/model", sha256=SHA256, progress=lambda done, total: None, context=trusting, scheme="https"):
        address = f"{scheme}://localhost:{server.server_address[1]}{path}"
        download.file(address, tmp_path / "model.pt", sha256, progress, context)
        return tmp_path / "model.pt"

    return get


def test_a_file_is_fetched_with_progress_and_only_once(get, server):
    seen = []
    path = get(progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    get()
    assert server.asked == [0]


def test_a_broken_download_goes_on_where_it_ended(get, server, tmp_path):
    with pytest.raises(SegmenterUnavailableError, match=r"model.pt cannot be fetched.*try again"):
        get("/cut")
    assert not (tmp_path / "model.pt").exists()
    half = (tmp_path / "model.pt.part").stat().st_size
    assert 0 < half < len(CONTENT)
    assert get().read_bytes() == CONTENT
    assert server.asked == [0, half]
    assert not (tmp_path / "model.pt.part").exists()


def test_a_server_without_ranges_starts_anew(get, tmp_path):
    (tmp_path / "model.pt.part").write_bytes(b"what came before")
    assert get("/deaf").read_bytes() == CONTENT


def test_a_download_that_was_killed_before_the_last_step_is_finished(get, tmp_path):
    (tmp_path / "model.pt.part").write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(get, tmp_path):
    with pytest.raises(SegmenterUnavailableError, match="does not have the SHA-256"):
        get(sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_what_lies_there_damaged_is_replaced(get, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"damaged")
    assert get().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "scheme", "why"),
    [("/model", "http", "only https"), ("/away", "https", "not https://"), ("/absent", "https", "404")],
)
def test_no_other_address_is_followed(get, path, scheme, why):
    with pytest.raises(SegmenterUnavailableError, match=why):
        get(path, scheme=scheme)


def test_a_server_nobody_vouches_for_is_refused(get):
    with pytest.raises(SegmenterUnavailableError, match="certificate"):
        get(context=ssl.create_default_context())


def test_fetching_a_checkpoint_checks_it_and_finds_it(certificate, server, tmp_path, monkeypatch):
    file = "deeplabv3_mnv2_pascal_quant.tflite"
    address = f"https://localhost:{server.server_address[1]}/model"
    published = weights.Checkpoint("deeplab", "deeplab", "tiny", "Apache-2.0", 5, file, address, sha256={file: SHA256})
    monkeypatch.setitem(weights.CATALOGUE, "deeplab", published)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "crt"))
    found = weights.fetch("deeplab", tmp_path / "models")
    assert found.weights.read_bytes() == CONTENT
    assert weights.check(found) == SHA256
