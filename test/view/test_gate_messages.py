"""The gate between real sockets: which messages of a browser reach the server of the page."""

import asyncio

import pytest

msgspec = pytest.importorskip('msgspec', reason='the extra [view] is not installed')
aiohttp = pytest.importorskip('aiohttp', reason='the extra [view] is not installed')

from cliptrase_ros.view import gate  # noqa: E402


def packed(**content):
    return msgspec.msgpack.encode(content)


WORDS = packed(type='GuiUpdateMessage', uuid='a', updates={'value': 'a' * 10_000})
LAST = packed(type='ViewerCameraMessage')


async def reached(messages):
    """Send messages and LAST through a gate. Return those that the server behind it received."""
    received, ended = [], asyncio.Event()

    async def behind(request):
        socket = aiohttp.web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            received.append(message.data)
            if message.data == LAST:
                break
        ended.set()
        return socket

    app = aiohttp.web.Application()
    app.router.add_get('/', behind)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, '127.0.0.1', 0).start()
    door = await asyncio.to_thread(gate.Gate, '127.0.0.1', 0, runner.addresses[0])
    try:
        origin = door.address.rstrip('/')
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(door.address, headers={'Origin': origin}) as browser,
        ):
            for one in [*messages, LAST]:
                await browser.send_bytes(one)
            closed = asyncio.ensure_future(browser.receive())
            await asyncio.wait(
                [closed, asyncio.ensure_future(ended.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
    finally:
        await asyncio.to_thread(door.close)
        await runner.cleanup()
    return received


def test_words_pass_and_what_the_page_does_not_need_is_dropped():
    dropped = [
        packed(type='ShareUrlRequest'),
        packed(type='GuiUpdateMessage', uuid='a', updates={'update_cb': []}),
        packed(type='GuiUpdateMessage', uuid='a', updates={'value': 1, 'label': 'x'}),
        packed(type='FileTransferStartUpload'),
        packed(),
        b'\xc1',
        b'\x01',
    ]
    assert asyncio.run(reached([WORDS, *dropped])) == [WORDS, LAST]


def test_a_message_that_is_too_large_ends_its_connection():
    large = packed(type='GuiUpdateMessage', uuid='a', updates={'value': 'a' * gate.LARGEST})
    assert asyncio.run(reached([large])) == []
