"""The page and the interface of ``xdomain serve``, for whoever has been given its token, on this machine."""

import asyncio
import hashlib
import re
import secrets
import sys
import traceback
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import Headers, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from xdomain.commands.service import FILES, Limits, Service
from xdomain.errors import UserError, choice

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAGE = Path(__file__).with_name("page.html")
LONGEST = 1024
"""Bytes of a text in a form."""
CONNECTIONS = 64
HEADERS = {
    "cache-control": "no-store",
    "connection": "close",  # else a second request on a connection could take its time
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the address has the token in it
    "x-content-type-options": "nosniff",
}


class Refused(Exception):
    """A request that is refused, with a status of HTTP and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def web(service: Service, token: str, hosts: Collection[str]) -> "Gate":
    """The application.

    Args:
        service: does the work.
        token: what every request must have.
        hosts: the ``Host`` headers by which it may be called, such as ``127.0.0.1:8000``.
    """
    content = PAGE.read_text(encoding="utf-8")
    desk = Desk(service)

    async def page(_: Request) -> Response:
        return HTMLResponse(content, headers={"content-security-policy": policy(content)})

    async def method(_: Request) -> Response:
        return JSONResponse(service.facts)

    async def no_such(_: Request, error: Any) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        return _sentence(error.status_code, f"{phrase}: there are GET /, GET /method and POST /translate.")

    app = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers={HTTPException: no_such})
    app.add_api_route("/", page, methods=["GET"], response_model=None)
    app.add_api_route("/method", method, methods=["GET"], response_model=None)
    app.add_api_route("/translate", desk.translate, methods=["POST"], response_model=None)
    return Gate(app, token, hosts)


def policy(page: str) -> str:
    """The Content-Security-Policy of a page: its own scripts and styles, and nothing from anywhere else."""

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in parts)

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


class Gate:
    """Lets requests pass that have the token, and come from here, before anything of their body is read.

    A page of another site that a browser shows can send requests to this machine, and can give its own name an address
    of this machine: the first have another ``Origin``, the second another ``Host``.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], token: str, hosts: Collection[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        if scope["type"] != "http":
            return
        answer = self._app if (why := self._why_not(scope)) is None else _sentence(403, why)
        await answer(scope, receive, guarded)

    def _why_not(self, scope: MutableMapping[str, Any]) -> str | None:
        headers, query = Headers(scope=scope), QueryParams(scope["query_string"])
        host = headers.getlist("host")
        if len(host) != 1 or host[0] not in self._hosts:
            return f"the host must be {choice(sorted(self._hosts))}: use the address that xdomain serve has printed."
        if headers.getlist("origin") not in ([], [f"http://{host[0]}"]):
            return "requests of other pages are refused: use the address that xdomain serve has printed."
        bearers = [value.removeprefix("Bearer ") for value in headers.getlist("authorization")]
        given = [*bearers, *query.getlist("token")]
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(), self._token.encode()):
            return "the token is missing or wrong: use the address that xdomain serve has printed."
        return None


class Desk:
    """Takes images and hands translations out, one after the other."""

    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._model = asyncio.Lock()
        self._inside = 0

    async def translate(self, request: Request) -> Response:
        """Answer a form with images by a picture, or by a sentence about what is wrong with it."""
        if self._inside >= self._limits.waiting:
            answer = _sentence(503, f"{self._inside} images are waiting already: try again in a moment.")
            answer.headers["retry-after"] = "5"
            return answer
        self._inside += 1
        opened: list[UploadFile] = []
        try:
            files, texts = await self._form(request, opened)
            async with self._model:
                if await request.is_disconnected():
                    raise ClientDisconnect
                made = await run_in_threadpool(self._service.translate, files, texts)
            return Response(made, media_type="image/png")
        except Refused as error:
            return _sentence(error.status, str(error))
        except UserError as error:
            return _sentence(400, str(error))
        except ClientDisconnect:
            return _sentence(400, "the request has ended too early.")
        except Exception:  # of a method, on an image that it was not made for: the next image may be fine
            traceback.print_exc(file=sys.stderr)
            return _sentence(500, "the translation has failed: the terminal of xdomain serve shows why.")
        finally:
            self._inside -= 1
            for file in opened:
                await file.close()

    async def _form(self, request: Request, opened: list[UploadFile]) -> tuple[dict[str, BinaryIO], dict[str, str]]:
        """The files and texts of a form; the files are added to ``opened``."""
        limits = self._limits
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data;"):
            raise Refused(415, "the images must come as multipart/form-data.")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limits.size:
            raise _too_large(limits)
        parser = MultiPartParser(
            request.headers,
            _up_to(request.stream(), limits),
            max_files=len(FILES),
            max_fields=len(self._service.fields),
            max_part_size=LONGEST,
        )
        try:
            async with asyncio.timeout(limits.seconds):
                form = await parser.parse()
        except TimeoutError as error:
            raise Refused(408, f"the request took more than {limits.seconds} seconds to arrive.") from error
        except (MultiPartException, ValueError, KeyError) as error:
            why = getattr(error, "message", "") or "it is no valid multipart/form-data"
            raise Refused(400, f"the form cannot be read: {why.rstrip('.')}.") from error
        files: dict[str, BinaryIO] = {}
        texts: dict[str, str] = {}
        opened += [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        for name, value in form.multi_items():
            if name in files or name in texts:
                raise Refused(400, f"{name} is given twice: leave one out.")
            if (name in FILES) != isinstance(value, UploadFile):
                raise Refused(400, f"{name} must be {'a file' if name in FILES else 'a text'}.")
            if isinstance(value, UploadFile):
                files[name] = value.file
            else:
                texts[name] = value
        return files, texts


class Hurried(H11Protocol):
    """A connection that is closed where the header of its request takes too long to arrive."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(self.timeout_keep_alive, self._close_unused)

    def _close_unused(self) -> None:
        if not self.cycle:
            self.transport.close()


def server(app: Gate, limits: Limits) -> uvicorn.Server:
    """A server of the application."""
    config = uvicorn.Config(
        app,
        http=Hurried,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=2**14,
        timeout_keep_alive=limits.seconds,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


async def _up_to(stream: AsyncGenerator[bytes, None], limits: Limits) -> AsyncGenerator[bytes, None]:
    """The same stream, which is refused where it grows too long."""
    total = 0
    async for chunk in stream:
        total += len(chunk)
        if total > limits.size:
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the request has more than {limits.size:,} bytes: give smaller images.")


def _sentence(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
