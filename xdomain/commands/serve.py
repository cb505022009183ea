"""``xdomain serve``: a page on this machine that translates images with a trained method."""

import argparse
import importlib
import secrets
import socket

from xdomain.commands.options import ALLOW_PROGRAM, Parser, check_numbers, named_options
from xdomain.errors import UserError, refuse

DESCRIPTION = """\
Serve a page that translates images with a trained method, to this machine alone: drop an image, compare before and
after. Programs send a form to /translate instead and get a PNG file, the one that xdomain translate would write.

  xdomain serve zoo:unit_facades
  curl -H "Authorization: Bearer TOKEN" -F image=@photo.jpg -F target=labels -o labels.png \\
      http://127.0.0.1:8000/translate

The address that it prints has the token in it, a new one every time, without which nothing is answered. Ctrl-C ends
it. To use it from another machine, lead the port there: ssh -L 8000:127.0.0.1:8000 HOST."""
NEEDED = ("fastapi", "uvicorn", "python-multipart")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve_command(args: list[str]) -> int:
    """Run ``xdomain serve``, until a signal ends it.

    Raises:
        UserError: if it cannot begin.
    """
    parser = Parser(
        "xdomain serve",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN|FILE", help="as --ckpt_path of xdomain translate")
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="address of this machine to serve at; 127.0.0.1")
    add("--port", type=int, metavar="N", default=8000, help="by default 8000; 0 takes any that is free")
    add("--most_megabytes", type=int, metavar="N", default=32, help="of a request with its images; by default 32")
    add("--most_pixels", type=int, metavar="N", help="of an image; by default 16,777,216")
    add("--allow", metavar="PACKAGE", action="append", default=[], help=ALLOW_PROGRAM)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    options = parser.parse_args(args)
    check_numbers(options, port=0, most_megabytes=1, most_pixels=1)
    if options.host in ("", "0.0.0.0", "::"):
        refuse(None, "--host", options.host or "empty", ", which is no single address: give one, as browsers will.")
    for package in NEEDED:
        try:
            importlib.import_module(package.replace("-", "_"))
        except ImportError as error:
            way = f"run `pip install {' '.join(NEEDED)}`."
            raise UserError(f"xdomain serve needs {package}, which is not installed: {way}") from error

    from xdomain.commands import web
    from xdomain.commands.service import Limits, Service
    from xdomain.running.outputs import MOST_PIXELS

    limits = Limits(size=options.most_megabytes * 2**20, pixels=options.most_pixels or MOST_PIXELS)
    with named_options():
        service = Service(options.run, tuple(options.allow), options.device, limits)
    token = secrets.token_urlsafe(32)
    with bound(options.host, options.port) as listening:
        port = listening.getsockname()[1]
        name = f"[{options.host}]" if ":" in options.host else options.host
        names = LOOPBACK if name in LOOPBACK else (name,)
        hosts = [f"{name}:{port}" for name in names] + [name for name in names if port == 80]
        app = web.web(service, token, hosts)
        print(f"serving {options.run}: http://{name}:{port}/?token={token}", flush=True)
        web.server(app, limits).run(sockets=[listening])
    return 0


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address, to which clients can connect already."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"nothing can be served at {host}, port {port} ({why}): give another --port or --host."
        ) from error
