"""The door of the live page: who may come in, and which messages a browser may send.

The server of the page (viser) does not look at where a connection comes from. It takes messages of
50 MB, and a message can set any attribute of a control, and open a tunnel to the internet. So the
server listens on a random loopback address, and this gate stands before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientError, ClientSession, WSMsgType, web

from .needs import PageError

log = logging.getLogger(__name__)

LOOPBACK = '127.0.0.1'
# The largest message of a browser in bytes: words of 10,000 characters fit many times.
LARGEST = 1 << 18
# Messages of a browser that the page needs. Of UPDATE only values.
NEEDED = ('ViewerCameraMessage', 'FileTransferPartAck')
UPDATE = 'GuiUpdateMessage'
_HEADERS = {
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
}


def needed(data: bytes) -> bool:
    """Return True if a message of a browser is one that the page needs."""
    try:
        message = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    if not isinstance(message, dict):
        return False
    if message.get('type') == UPDATE:
        updates = message.get('updates')
        return isinstance(updates, dict) and updates.keys() == {'value'}
    return message.get('type') in NEEDED


class Gate:
    """Passes browsers on to a server on loopback; runs on a thread of its own.

    On loopback, the browser must have addressed this machine (Host), and the page must be its own
    (Origin). On any other address, it must also know a random token, which is part of the address
    of the page and is kept in a cookie.

    Args:
        host, port: address to listen on; port 0: any free one.
        inner: (host, port) of the server behind it.

    Attributes:
        address: of the page, for a browser.

    Raises:
        PageError: the address cannot be used.
    """

    def __init__(self, host: str, port: int, inner: tuple[str, int]):
        self._inner = '{}:{}'.format(*inner)
        self._token = '' if host in (LOOPBACK, 'localhost') else secrets.token_urlsafe(16)
        self._sockets: set[web.WebSocketResponse] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name='gate', daemon=True)
        self._thread.start()
        try:
            self._port = self._await(self._open(host, port))
        except OSError as error:
            self.close()
            raise PageError(
                f'the page cannot be served at {host}:{port}: {error.strerror or error}; choose '
                'another port, or end the program that uses this one'
            ) from None
        query = f'?token={self._token}' if self._token else ''
        shown = f'[{host}]' if ':' in host else host
        self.address = f'http://{shown}:{self._port}/{query}'

    def close(self) -> None:
        """Close all connections and stop listening."""
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _open(self, host: str, port: int) -> int:
        self._session = ClientSession()
        app = web.Application(client_max_size=LARGEST)
        app.router.add_get('/{path:.*}', self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        return int(self._runner.addresses[0][1])

    async def _close(self) -> None:
        for socket in list(self._sockets):
            await socket.close()
        await self._session.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if reason := self._refusal(request):
            log.warning('the page refused a connection: %s', reason)
            return _last(web.Response(status=403, text=reason, headers=_HEADERS))
        if request.headers.get('Upgrade', '').lower() == 'websocket':
            return await self._connect(request)
        if self._token and 'token' in request.query:
            welcome = web.Response(status=303, headers={'Location': '/'})
            welcome.set_cookie(self._cookie, self._token, httponly=True, samesite='Lax')
            return welcome
        return await self._page(request)

    def _refusal(self, request: web.Request) -> str:
        """Return why a connection may not come in, or ''."""
        host, origin = request.headers.get('Host', ''), request.headers.get('Origin')
        if not self._token and host not in (f'{LOOPBACK}:{self._port}', f'localhost:{self._port}'):
            return f'it asked for the host {host!r}, not for {LOOPBACK}:{self._port}'
        if origin is not None and urlsplit(origin).netloc != host:
            return f'it came from a page of {origin!r}'
        if self._token and not self._knows(request):
            return 'it has no token: open the whole address that was printed'
        return ''

    def _knows(self, request: web.Request) -> bool:
        given = [request.query.get('token', ''), request.cookies.get(self._cookie, '')]
        return any(secrets.compare_digest(one.encode(), self._token.encode()) for one in given)

    @property
    def _cookie(self) -> str:
        return f'cliptrase_view_{self._port}'  # cookies do not tell ports apart

    async def _page(self, request: web.Request) -> web.Response:
        address = f'http://{self._inner}/{request.match_info["path"]}'
        try:
            async with self._session.get(
                address, headers={'Accept-Encoding': 'identity'}
            ) as answer:
                kind = answer.headers.get('Content-Type', 'text/html')
                headers = {**_HEADERS, 'Content-Type': kind}
                return web.Response(body=await answer.read(), status=answer.status, headers=headers)
        except (ClientError, ValueError):
            return _last(web.Response(status=502, text='the page has ended'))

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        given = request.headers.get('Sec-WebSocket-Protocol', '')
        protocols = [one.strip() for one in given.split(',')] if given else []
        outer = web.WebSocketResponse(protocols=protocols, max_msg_size=LARGEST, compress=False)
        await outer.prepare(request)
        self._sockets.add(outer)
        with contextlib.suppress(ClientError, ConnectionError):
            async with self._session.ws_connect(
                f'ws://{self._inner}', protocols=protocols, max_msg_size=0
            ) as inner:
                ways = [_pass_in(outer, inner), _pass_out(inner, outer)]
                tasks = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await outer.close()
        self._sockets.discard(outer)
        return outer


def _last(response: web.Response) -> web.Response:
    """Return a response after which the connection ends."""
    response.force_close()
    return response


async def _pass_in(outer, inner) -> None:
    async for message in outer:
        if message.type == WSMsgType.BINARY and needed(message.data):
            await inner.send_bytes(message.data)


async def _pass_out(inner, outer) -> None:
    async for message in inner:
        if message.type == WSMsgType.BINARY:
            await outer.send_bytes(message.data)
