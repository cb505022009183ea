"""A server on a port of this machine, and what a client that means no good can send to it."""

import hashlib
import http.client
import io
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.test_translate import save
from tests.inference.test_program import installed
from tests.inference.test_tasks import OPTIONS, Plain, Quarters, saved
from xdomain.commands.main import main
from xdomain.commands.serve import NEEDED, bound
from xdomain.commands.service import Limits, Service
from xdomain.errors import UserError
from xdomain.inference.export import facts_of
from xdomain.methods import Classifier
from xdomain.networks import ConvClassifier

for package in NEEDED:
    pytest.importorskip(package.replace("-", "_"), reason=f"{package} is not installed: pip install '.[serve]'")

web = pytest.importorskip("xdomain.commands.web")

TOKEN = "t0ken-" * 6
LIMITS = Limits(size=200_000, pixels=10_000, seconds=1, waiting=16)
RNG = np.random.default_rng(0)


class Served(NamedTuple):
    port: int
    checkpoint: Path

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def send(self, content, trickle=()):
        """Status and body of the answer to bytes, and to more that follow; status 0 for a connection closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            try:
                connection.sendall(content)
                for pause, more in trickle:
                    pause()
                    connection.sendall(more)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                return answer.status, answer.read()
            except (ConnectionError, http.client.BadStatusLine):
                return 0, b""

    def translate(self, *parts):
        return self.send(request(self, *parts))


def serving(service):
    """A server in a thread of its own: the port, and a function that ends it."""
    connected = bound("127.0.0.1", 0)
    port = connected.getsockname()[1]
    server = web.server(web.web(service, TOKEN, [f"127.0.0.1:{port}", f"localhost:{port}"]), service.limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [connected]})
    thread.start()

    def end():
        server.should_exit = True
        thread.join(30)
        connected.close()
        assert not thread.is_alive()

    return port, end


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    checkpoint = saved(tmp_path_factory.mktemp("run") / "x.ckpt")
    port, end = serving(Service(str(checkpoint), ("tests",), "cpu", LIMITS))
    yield Served(port, checkpoint)
    end()


def png(width=20, height=12, format="PNG"):
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(content, format)
    return content.getvalue()


IMAGE, GUIDE = png(), png(9, 9)


def form(*parts):
    """A form of (name, content) and (name, content, file name)."""
    lines = []
    for name, content, *file in parts:
        lines.append(f'--xyz\r\nContent-Disposition: form-data; name="{name}"'.encode())
        lines[-1] += f'; filename="{file[0]}"'.encode() if file else b""
        lines.append(b"\r\n\r\n" + (content if isinstance(content, bytes) else str(content).encode()) + b"\r\n")
    return b"".join(lines) + b"--xyz--\r\n"


def request(
    served,
    *parts,
    body=None,
    kind="multipart/form-data; boundary=xyz",
    line="POST /translate HTTP/1.1",
    host=None,
    token=f"Authorization: Bearer {TOKEN}",
    more=(),
    length=None,
):
    """A request as bytes; every line of its header can be another, or left out by an empty text."""
    body = form(*parts) if body is None else body
    header = [line, f"Host: {served.host}" if host is None else host, token, *more]
    header += [f"Content-Type: {kind}"] if kind else []
    header += [f"Content-Length: {len(body)}"] if length is None else [length]
    return "\r\n".join(filter(None, header)).encode("latin-1") + b"\r\n\r\n" + body


def get(served, path, **more):
    return request(served, body=b"", kind="", length="", line=f"GET {path} HTTP/1.1", **more)


def good(served):
    return served.translate(("image", IMAGE, "x.png"), ("target", "with"), ("guide", GUIDE, "y.png"))


@pytest.fixture
def expected(served, tmp_path):
    """What xdomain translate makes of the same images."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_bytes(IMAGE)
    (tmp_path / "guide.png").write_bytes(GUIDE)
    words = ["--ckpt_path", str(served.checkpoint), "--allow", "tests", "--input", "in", "--output", "out"]
    assert main(["translate", *words, "--target", "with", "--guide", "guide.png", "--device", "cpu"]) == 0
    return (tmp_path / "out" / "x.png").read_bytes()


# ---------------------------------------------------------------- what is answered


def test_a_picture_is_the_file_that_translate_writes(served, expected):
    assert good(served) == (200, expected)
    with Image.open(io.BytesIO(expected)) as picture:
        assert picture.size == (20, 12)


def test_names_of_files_do_not_matter(served, expected, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for name in ("../../../../../../tmp/evil.png", "/etc/passwd", "x.exe", "a" * 2000, "%2e%2e%2fx", "x\\..\\y.jpg"):
        parts = ("image", IMAGE, name), ("target", "with"), ("guide", GUIDE, name)
        assert served.translate(*parts) == (200, expected)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/evil.png").exists()


def test_options_are_those_of_translate(served):
    status, content = served.translate(("image", IMAGE, "x"), ("task", "remove"), ("size", "model"))
    assert status == 200
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (8, 8)


def test_the_page_has_its_own_scripts_and_nothing_else(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", f"/?token={TOKEN}")
    answer = connection.getresponse()
    page, policy = answer.read().decode(), answer.headers["content-security-policy"]
    assert answer.status == 200
    for tag in ("script", "style"):
        ((part,),) = [re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)]
        digest = b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|src=\"|style=\"|\son\w+=|innerHTML", page)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_told_what_the_method_offers(served):
    facts = Service(str(served.checkpoint), ("tests",), "cpu").facts
    tasks = {task["name"]: task for task in facts["tasks"]}
    assert facts["method"] == "Quarters"
    assert list(tasks) == ["transfer", "remove", "add", "swap", "interpolate"]
    both = [{"source": "with", "target": "other"}, {"source": "other", "target": "with"}]
    assert tasks["transfer"]["directions"] == [{**ends, "guide": "needed"} for ends in both]
    assert tasks["remove"]["directions"] == [{"source": name, "guide": "none"} for name in ("with", "other")]
    assert tasks["swap"]["directions"] == [{"source": name, "guide": "needed"} for name in ("with", "other")]
    steps = next(option for option in tasks["interpolate"]["options"] if option["name"] == "steps")
    assert (steps["kind"], steps["default"], steps["choices"]) == ("whole", 7, [])


def test_a_domain_without_content_takes_no_guide(tmp_path):
    class OneSided(Quarters):
        def __init__(self, **options):
            super().__init__(contents=("with",), **options)

    service = object.__new__(Service)
    service._known = {}
    tasks = service._method(OneSided(**OPTIONS))
    directions = {(way["source"], way["target"]): way["guide"] for way in tasks[0]["directions"]}
    assert directions == {("with", "other"): "none", ("other", "with"): "needed"}
    assert [way["source"] for task in tasks if task["name"] == "swap" for way in task["directions"]] == ["with"]


def test_an_exported_program_is_served_too(monkeypatch, tmp_path):
    method = Plain(**OPTIONS)
    facts = facts_of(method, "transfer", "with", "other", {})
    path = installed(monkeypatch, tmp_path, lambda images: method.translate(images, "with", "other"), facts)
    service = Service(path)
    (task,) = service.facts["tasks"]
    assert task["directions"] == [{"source": "with", "target": "other", "guide": "none"}]
    (tmp_path / "in.png").write_bytes(IMAGE)
    assert main(["translate", "--ckpt_path", path, "--input", "in.png", "--output", "out"]) == 0
    made = service.translate({"image": io.BytesIO(IMAGE)}, {})
    assert made == (tmp_path / "out" / "in.png").read_bytes()
    with pytest.raises(UserError, match="target is with, but the program was exported with other"):
        service.translate({"image": io.BytesIO(IMAGE)}, {"target": "with"})
    with pytest.raises(UserError, match="seed is 3, but an exported program has no such option"):
        service.translate({"image": io.BytesIO(IMAGE)}, {"seed": "3"})
    with pytest.raises(UserError, match="device is cpu, but"):
        Service(path, device="cpu")


def test_a_browser_translates_on_the_page(served, expected, tmp_path):
    reason = "needs chromium and playwright: apt-get install chromium, pip install playwright"
    browsers = pytest.importorskip("playwright.sync_api", reason=reason)
    if (program := shutil.which("chromium")) is None:
        pytest.skip(reason)
    (tmp_path / "x.png").write_bytes(IMAGE)
    with browsers.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"http://127.0.0.1:{served.port}/?token={TOKEN}")
        page.set_input_files("[name=image]", tmp_path / "x.png")
        page.select_option("[name=direction]", label="other \u2192 with")
        assert page.is_disabled("#go")  # there is no guide yet
        page.set_input_files("[name=guide]", tmp_path / "guide.png")
        page.click("#go")
        page.wait_for_selector("#pictures:not([hidden])")
        with page.expect_download() as saved_as:
            page.click("#save")
        assert saved_as.value.suggested_filename == "x_with.png"
        assert Path(saved_as.value.path()).read_bytes() == expected
        page.focus("#line")
        page.keyboard.press("End")
        assert page.evaluate("document.getElementById('compare').style.getPropertyValue('--at')") == "100%"
        page.select_option("[name=task]", label="remove")
        assert page.is_hidden("#drop_guide")
        page.set_input_files("[name=image]", {"name": "x.png", "mimeType": "image/png", "buffer": b"hello"})
        page.click("#go")
        page.wait_for_selector("#said.bad")
        assert page.inner_text("#said").startswith("The image cannot be read as an image")
        page.screenshot(path=tmp_path / "page.png")
        browser.close()
    assert [text for text in said if "status of 400" not in text] == []


# ---------------------------------------------------------------- what is refused


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side):
    """A PNG file of side x side black pixels, one bit each."""
    packed, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    content = b"".join([*(packed.compress(row * 100) for _ in range(side // 100)), packed.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def text_bomb():
    """A small PNG file with a text that unpacks to 100 MB."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    packed = zlib.compressobj(9)
    text = b"".join([*(packed.compress(bytes(10**6)) for _ in range(100)), packed.flush()])
    parts = chunk(b"IHDR", header) + chunk(b"zTXt", b"a\0\0" + text) + chunk(b"IDAT", zlib.compress(bytes(8 * 25)))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


def hostile(served):
    """Requests by what they try: the bytes, and the statuses with which they may be answered; 0 for none at all."""
    own, port = served.host, served.port
    image = ("image", IMAGE, "x.png")
    other, found = ("target", "with"), ("guide", GUIDE, "y.png")
    whole = image, other, found  # nothing is wrong with these

    hosts = [
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "localhost",
        f"127.0.0.1:{port + 1}",
        "",
        "*",
        own + ".x",
    ]
    hosts += [
        f"127.0.0.1.evil.example:{port}",
        f"evil.example@{own}",
        f"{own}@evil.example",
        f"[::1]:{port}",
        f"{own},x",
    ]
    hosts += [
        f"0.0.0.0:{port}",
        f"127.1:{port}",
        f"2130706433:{port}",
        f"http://{own}",
        f"{own}/",
        f"x {own}",
        f"{own}#",
    ]
    for host in hosts:
        yield f"host {host}", request(served, *whole, host=f"Host: {host}"), (400, 403)
    yield "no host", request(served, *whole, host=""), (400,)
    yield "two hosts", request(served, *whole, more=["Host: evil.example"]), (400,)
    yield "forwarded host", request(served, *whole, host="Host: x", more=[f"X-Forwarded-Host: {own}"]), (403,)

    origins = [
        "http://evil.example",
        "null",
        f"https://{own}",
        "http://127.0.0.1",
        f"http://127.0.0.1:{port + 1}",
        "",
        "x",
    ]
    origins += [f"http://localhost:{port}", f"http://{own}.evil.example", f"http://{own}/", f"file://{own}", "file://"]
    origins += [f"http://evil.example http://{own}", f"HTTP://{own}", own, "moz-extension://x", "*"]
    for origin in origins:
        yield f"origin {origin}", request(served, *whole, more=[f"Origin: {origin}"]), (403,)
    both = [f"Origin: http://{own}", "Origin: http://evil.example"]
    yield "two origins", request(served, *whole, more=both), (403,)

    tokens = [
        "",
        TOKEN[:-1],
        f"{TOKEN}x",
        TOKEN.upper(),
        TOKEN[::-1],
        "null",
        "*",
        "a" * 5000,
        "\xe9" * 36,
        f"{TOKEN},{TOKEN}",
    ]
    for token in tokens:
        line = f"Authorization: Bearer {token}"
        yield f"token {token[:50]}", request(served, *whole, token=line), (403,)
        yield f"token in address {token[:50]}", get(served, f"/?token={token.strip().encode().hex()}", token=""), (403,)
    for line in (f"Authorization: Basic {TOKEN}", f"Cookie: token={TOKEN}", f"X-Token: {TOKEN}", ""):
        yield f"token as {line[:20]}", request(served, *whole, token=line), (403,)
    yield "two tokens", request(served, *whole, more=["Authorization: Bearer x"]), (403,)
    yield "token in the form", request(served, *whole, ("token", TOKEN), token=""), (403,)
    for path in ("/", "/method", "/translate", "/docs", "/favicon.ico"):
        yield f"no token {path}", get(served, path, token=""), (403,)

    paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.html",
        "/static/page.html",
        "/web.py",
    ]
    paths += [
        "/..%2f..%2fetc%2fpasswd",
        "/....//....//etc/passwd",
        "/%00",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/method/",
    ]
    paths += [
        "/translate/../web.py",
        "/translate%00.png",
        "/\\..\\..\\x",
        "/.git/config",
        "/proc/self/environ",
    ]
    paths += [
        f"http://{own}/",
        "http://evil.example/",
        "file:///etc/passwd",
        "/METHOD",
        "/%252e%252e/x",
        "/;/method",
        "*",
    ]
    for path in paths:
        yield f"path {path}", get(served, path), (400, 404, 405)
    for verb in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "GET"):
        yield f"{verb} to translate", request(served, *whole, line=f"{verb} /translate HTTP/1.1"), (400, 404, 405)
    for path in ("/", "/method"):
        for verb in ("POST", "PUT", "DELETE", "OPTIONS"):
            yield f"{verb} {path}", request(served, *whole, line=f"{verb} {path} HTTP/1.1"), (405,)
    yield "web socket", get(served, "/translate", more=["Upgrade: websocket", "Connection: Upgrade"]), (405,)

    for name in (
        *(
            "input",
            "output",
            "ckpt_path",
            "parameters",
            "allow",
            "overwrite",
            "batch_size",
            "device",
            "config",
            "--output",
        ),
        *("../x", "", "output=/tmp/evil", "imagex", "run", "folder", "__class__", "guide.png", "method", "h", "help"),
    ):
        yield f"field {name}", request(served, *whole, (name, "/tmp/evil")), (400,)
        yield f"file {name}", request(served, *whole, (name, IMAGE, "/tmp/evil")), (400,)
    for name, value in (
        *(("task", "../../etc"), ("task", "random"), ("task", "__init__"), ("source", "/etc/passwd")),
        *(("seed", "-1"), ("seed", "1e9"), ("seed", "9" * 40), ("seed", "9" * 1000), ("size", "huge"), ("size", "")),
        *(("steps", "1000000"), ("steps", "-3"), ("fixed", "../x"), ("path", "/etc/passwd"), ("strength", "nan")),
        *(
            ("factor", "1e9"),
            ("attributes", "--output=/tmp/evil"),
            ("source", "x\n--output=/tmp/evil"),
            ("radius", "inf"),
        ),
    ):
        yield f"{name} {value[:60]}", request(served, *whole, (name, value)), (400,)
    yield "many steps", request(served, *whole[::2], ("task", "interpolate"), ("steps", "101")), (400,)
    for name in ("image", "target", "guide"):
        twice = next(part for part in whole if part[0] == name)
        yield f"{name} twice", request(served, *whole, twice), (400,)
    yield "text for an image", request(served, ("image", "/etc/passwd"), other, found), (400,)
    yield "file for a text", request(served, image, ("target", b"with", "with"), found), (400,)
    yield "long text", request(served, *whole, ("source", "x" * 2000)), (400,)
    yield "many texts", request(served, *whole, *[(f"x{i}", "y") for i in range(1000)]), (400,)
    yield "many files", request(served, *whole, *[(f"x{i}", b"y", "z") for i in range(1000)]), (400,)
    yield "nothing", request(served), (400,)
    yield "no image", request(served, other, found), (400,)
    yield "no guide", request(served, image, other), (400,)

    for kind in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "",
        "multipart/form-data",
    ):
        yield f"kind {kind}", request(served, *whole, kind=kind), (415,)
    for kind in ("multipart/form-data; boundary=", "multipart/form-data; x=y", "multipart/form-data; boundary=other"):
        yield f"kind {kind}", request(served, *whole, kind=kind), (400,)
    yield "long boundary", request(served, *whole, kind=f"multipart/form-data; boundary={'x' * 3000}"), (400,)
    body = form(*whole)
    for share in (0.1, 0.4, 0.7, 0.95):
        yield f"form cut off at {share}", request(served, body=body[: int(share * len(body))]), (400,)
    start = b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n'
    yield "long header of a part", request(served, body=start + b"X: " + b"y" * 50_000 + b"\r\n\r\n"), (400,)
    yield "many headers of a part", request(served, body=start + b"X: y\r\n" * 5000 + b"\r\n"), (400,)
    yield "part without a name", request(served, body=b"--xyz\r\nX: y\r\n\r\n\r\n--xyz--\r\n"), (400,)
    yield "noise for a form", request(served, body=RNG.bytes(5000)), (400,)

    damaged = {f"cut off at {n}": IMAGE[:n] for n in (0, 1, 8, 20, 33, 50, 100, 300, len(IMAGE) - 40)}
    jpeg = png(90, 60, "JPEG")
    damaged |= {f"JPEG cut off at {n}": jpeg[:n] for n in (2, 20, 200, 600, len(jpeg) // 2)}
    damaged |= {f"noise {n}": RNG.bytes(n) for n in (10, 1000, 100_000)}
    damaged |= {f"{kind} cut off": png(60, 60, kind)[:120] for kind in ("GIF", "BMP", "TIFF", "WEBP")}
    damaged |= {
        "wrong checksum": IMAGE[:60] + bytes([IMAGE[60] ^ 255]) + IMAGE[61:],
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.4\n%",
        "ICO": png(16, 16, "ICO"),
        "pickle": b"\x80\x04cos\nsystem\n",
        "text": b"hello",
        "bomb of 9 million pixels": bomb(3000),
        "bomb of 400 million pixels": bomb(20_000),
        "bomb in a text": text_bomb(),
        "a row too many": png(100, 101),
        "wide": png(10_001, 1),
        "GIF of 65535 x 65535": b"GIF89a" + b"\xff" * 4 + b"\0\0\0," + bytes(4) + b"\xff" * 4 + b"\0\x02\x02D\x01\0;",
        "BMP of 30000 x 30000": b"BM" + struct.pack("<IIIIiiHH24x", 54, 0, 54, 40, 30000, 30000, 1, 24),
        "PPM of 99999 x 99999": b"P6 99999 99999 255\n",
    }
    for name, content in damaged.items():
        yield f"image {name}", request(served, ("image", content, "x.png"), other, found), (400, 413)
        if "noise" in name or "bomb" in name:
            yield f"guide {name}", request(served, image, other, ("guide", content, "x.png")), (400, 413)

    large = form(("image", bytes(250_000), "x"))
    yield "too large", request(served, body=large), (413, 0)
    yield "too large by its header", request(served, *whole, length="Content-Length: 1000000000"), (413, 0)
    yield "length with many digits", request(served, *whole, length=f"Content-Length: {'9' * 19}"), (400, 413, 0)
    chunked = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large[:100_000], large[100_000:])) + b"0\r\n\r\n"
    )
    yield "too large in chunks", request(served, body=chunked, length="Transfer-Encoding: chunked"), (413, 0)
    for length in ("Content-Length: -1", "Content-Length: x", "Content-Length: 5\r\nContent-Length: 6"):
        yield length, request(served, *whole, length=length), (400, 0)
    yield "chunks of no length", request(served, body=b"zz\r\n", length="Transfer-Encoding: chunked"), (400, 0)
    yield "long header", request(served, *whole, more=[f"X: {'y' * 300_000}"]), (400, 0)
    yield "many headers", request(served, *whole, more=["X: y"] * 50_000), (400, 0)
    yield "no HTTP", RNG.bytes(2000), (400, 0)
    yield "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + RNG.bytes(500) + b"\r\n\r\n", (400, 0)


def test_no_hostile_request_gets_through_and_none_stops_the_server(served, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = sorted(tmp_path.iterdir())
    sent = list(hostile(served))
    assert len(sent) >= 200
    assert len({name for name, *_ in sent}) == len(sent)
    wrong = {}
    with ThreadPoolExecutor(4) as pool:
        for (name, _, allowed), (status, body) in zip(
            sent, pool.map(lambda one: served.send(one[1]), sent), strict=True
        ):
            words = body.decode("latin-1")
            sentence = not status or status == 400 or re.fullmatch(r'\{"error":".{10,400}"\}', words)
            if status not in allowed or not sentence or "/tmp" in words.replace("/tmp/evil", ""):
                wrong[name] = status, words[:200]
    assert wrong == {}
    status, sentence = served.translate(("image", IMAGE, "x"), ("source", "x" * 2000))
    assert (status, b"the form cannot be read" in sentence) == (400, True)  # not kept in memory to be looked up
    assert good(served) == (200, expected)
    assert sorted(tmp_path.iterdir()) == before
    assert list((tmp_path / "temporary").iterdir()) == []  # nothing of them is kept
    assert not Path("/tmp/evil").exists()


def test_slow_requests_are_cut_off_while_others_are_served(served, expected):
    whole = request(served, ("image", IMAGE, "x.png"), ("target", "with"), ("guide", GUIDE, "y.png"))
    body = whole.index(b"\r\n\r\n") + 4
    go_on = threading.Event()

    def pause():
        go_on.wait(0.2)

    drops = [(pause, whole[i : i + 1]) for i in range(body + 10, body + 40)]
    slow = {
        "header": (whole[:30], [], (0,)),
        "header by bytes": (whole[:30], [(pause, whole[i : i + 1]) for i in range(30, 60)], (0,)),
        "no byte": (b"", [], (0,)),
        "body": (whole[: body + 10], [], (408,)),
        "body by bytes": (whole[: body + 10], drops, (0, 408)),
        "no body": (whole[:body], [], (408,)),
    }
    with ThreadPoolExecutor(len(slow)) as pool:
        answers = {name: pool.submit(served.send, start, rest) for name, (start, rest, _) in slow.items()}
        assert good(served) == (200, expected)  # while all of them wait
        for name, (_, _, allowed) in slow.items():
            assert answers[name].result(20)[0] in allowed, name
    assert good(served) == (200, expected)


def test_a_client_that_leaves_is_forgotten(served, expected):
    whole = request(served, ("image", IMAGE, "x.png"), ("target", "with"), ("guide", GUIDE, "y.png"))
    for share in (0.3, 0.6, 1.0):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(whole[: int(share * len(whole))])
    assert good(served) == (200, expected)


class Slow:
    """A service that waits for a word, and fails at another."""

    fields = ("task",)
    limits = Limits(waiting=2, seconds=10)

    def __init__(self):
        self.facts = {}
        self.at_work, self.go_on, self.together, self.most = threading.Event(), threading.Event(), 0, 0

    def translate(self, files, texts):
        self.together += 1
        self.most = max(self.most, self.together)
        self.at_work.set()
        assert self.go_on.wait(20)
        self.together -= 1
        if texts:
            raise ZeroDivisionError("a bug")
        return b"made"


def test_one_image_is_worked_on_and_only_so_many_wait(capfd):
    service = Slow()
    port, end = serving(service)
    served = Served(port, None)
    try:
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(served.translate, ("image", IMAGE, "x"))
            assert service.at_work.wait(20)
            others = [pool.submit(served.translate, ("image", IMAGE, "x")) for _ in range(3)]
            early = list(islice(as_completed(others), 2))  # the third of them waits in the server
            service.go_on.set()
            assert [answer.result()[0] for answer in early] == [503, 503]
            refused = [answer for answer in (other.result(20) for other in others) if answer[0] == 503]
            assert len(refused) == 2
            assert b"2 images are waiting already: try again in a moment." in refused[0][1]
            assert [other.result() for other in (first, *others) if other.result()[0] != 503] == [(200, b"made")] * 2
        status, words = served.translate(("image", IMAGE, "x"), ("task", "fail"))
        assert (status, b"the terminal of xdomain serve shows why" in words) == (500, True)
        assert served.translate(("image", IMAGE, "x")) == (200, b"made")
        assert service.most == 1
        assert "ZeroDivisionError: a bug" in capfd.readouterr().err
    finally:
        service.go_on.set()
        end()


# ---------------------------------------------------------------- the command


def test_the_command_prints_an_address_that_answers(served, monkeypatch):
    servers, made = [], web.server
    monkeypatch.setattr(web, "server", lambda *given: servers.append(made(*given)) or servers[-1])
    tokens, lines = set(), []
    for _ in range(2):
        words = ["serve", str(served.checkpoint), "--allow", "tests", "--port", "0", "--device", "cpu"]
        monkeypatch.setattr(sys, "stdout", printed := io.StringIO())  # capsys can lose what a thread prints meanwhile
        thread = threading.Thread(target=main, args=(words,))
        thread.start()
        while not (line := printed.getvalue()).endswith("\n"):
            assert thread.is_alive()
            time.sleep(0.01)
        address = re.fullmatch(rf"serving {served.checkpoint}: http://127.0.0.1:(\d+)/\?token=([\w-]{{43}})\n", line)
        other = Served(int(address[1]), None)
        assert other.send(get(other, f"/?token={address[2]}", token=""))[0] == 200
        assert other.send(get(other, f"/?token={address[2]}", token="", host=f"Host: localhost:{address[1]}"))[0] == 200
        assert other.send(get(other, f"/?token={TOKEN}", token=""))[0] == 403
        servers[-1].should_exit = True
        thread.join(30)
        assert not thread.is_alive()
        tokens.add(address[2])
        lines.append(line)
    assert len(tokens) == 2


@pytest.mark.parametrize("package", NEEDED)
def test_a_missing_package_is_named(monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    assert main(["serve", "x.ckpt"]) == 2
    sentence = (
        f"xdomain serve needs {package}, which is not installed: run `pip install fastapi uvicorn python-multipart`."
    )
    assert capsys.readouterr().err == f"xdomain: error: {sentence}\n"


def test_what_cannot_be_served_is_refused(served, tmp_path, capsys):
    torch.manual_seed(0)
    network = ConvClassifier(widths=[4, 4, 8], image_size=16)
    spec = {"class_path": "ConvClassifier", "init_args": {"widths": [4, 4, 8], "image_size": 16}}
    save(Classifier(network, domains=("x",), channels=(3,), image_size=16), tmp_path / "f.ckpt", network=spec)
    taken = str(served.port)
    for words, sentence in (
        (["absent.ckpt"], "absent.ckpt does not exist"),
        (["zoo:nothing"], "zoo:nothing is none of the weights that come with xdomain"),
        (["f.ckpt"], "a Classifier does not translate"),
        (["x", "--host", "0.0.0.0"], "--host is 0.0.0.0, which is no single address"),
        (["x", "--port", "-1"], "--port is -1: give a whole number"),
        (
            [str(served.checkpoint), "--allow", "tests", "--port", taken],
            f"nothing can be served at 127.0.0.1, port {taken} (",
        ),
        (
            [str(served.checkpoint), "--allow", "tests", "--port", "70000"],
            "nothing can be served at 127.0.0.1, port 70000 (",
        ),
    ):
        assert main(["serve", *words]) == 2
        err = capsys.readouterr().err
        assert err.startswith("xdomain: error: ")
        assert sentence in err
        assert err.count("\n") == 1
