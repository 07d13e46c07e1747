"""The gate before the page, with a real server behind it."""

import http.client
import http.server
import socket
import threading
from contextlib import suppress

import pytest

pytest.importorskip('msgspec', reason='the extra [view] is not installed')
pytest.importorskip('aiohttp', reason='the extra [view] is not installed')

from cliptrase_ros.view.gate import Gate
from cliptrase_ros.view.needs import PageError


class Behind(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header('Content-Length', '4')
        self.end_headers()
        self.wfile.write(b'page')

    def log_message(self, *args):
        pass


@pytest.fixture
def behind():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Behind)
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def free_port():
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return one.getsockname()[1]


@pytest.fixture
def gate(behind, request):
    gate = Gate(getattr(request, 'param', '127.0.0.1'), free_port(), behind.server_address)
    yield gate
    gate.close()


def port_of(gate):
    return int(gate.address.split(':')[2].split('/')[0])


def ask(gate, path='/', **headers):
    """Return (status, body, headers) of the answer."""
    connection = http.client.HTTPConnection('127.0.0.1', port_of(gate), timeout=30)
    try:
        connection.request('GET', path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_a_browser_of_this_machine_comes_in(gate, behind):
    own = f'http://127.0.0.1:{port_of(gate)}'
    assert gate.address == own + '/'
    assert ask(gate)[:2] == (200, 'page')
    assert ask(gate, Origin=own)[:2] == (200, 'page')
    assert ask(gate, Host=f'localhost:{port_of(gate)}')[:2] == (200, 'page')
    assert behind.asked == ['/'] * 3


@pytest.mark.parametrize('origin', ['http://evil.example', 'http://127.0.0.1:1', 'null', ''])
def test_a_page_from_elsewhere_stays_out(gate, behind, origin):
    status, text, _ = ask(gate, Origin=origin, Upgrade='websocket')
    assert status == 403 and repr(origin) in text
    assert not behind.asked


def test_a_name_that_leads_to_this_machine_stays_out(gate, behind):
    status, text, _ = ask(gate, Host='evil.example')
    assert status == 403 and 'evil.example' in text
    assert not behind.asked


@pytest.mark.parametrize('gate', ['0.0.0.0'], indirect=True)
def test_other_machines_need_the_token(gate, behind):
    token = gate.address.partition('?token=')[2]
    assert len(token) > 20
    for path in ('/', '/?token=', '/?token=wrong', '/?token=%C3%A4'):
        status, text, _ = ask(gate, path)
        assert status == 403 and 'whole address' in text
    assert ask(gate, Cookie=f'cliptrase_view_{port_of(gate)}=wrong')[0] == 403
    assert not behind.asked
    status, _, headers = ask(gate, f'/?token={token}', Host='robot.local')
    assert status == 303 and headers['Location'] == '/'
    assert 'HttpOnly' in headers['Set-Cookie'] and 'SameSite' in headers['Set-Cookie']
    cookie = headers['Set-Cookie'].partition(';')[0]
    assert ask(gate, Cookie=cookie, Host='robot.local')[:2] == (200, 'page')
    assert ask(gate, Cookie=cookie, Origin='http://evil.example')[0] == 403
    assert behind.asked == ['/']


def test_the_token_is_another_each_time(behind):
    gates = [Gate('0.0.0.0', free_port(), behind.server_address) for _ in range(2)]
    tokens = {gate.address.partition('?token=')[2] for gate in gates}
    for gate in gates:
        gate.close()
    assert len(tokens) == 2


def raw(gate, data):
    """Return what comes back for these bytes until the connection ends."""
    with socket.create_connection(('127.0.0.1', port_of(gate)), timeout=30) as connection:
        received = b''
        try:
            connection.sendall(data)
            while more := connection.recv(4096):
                received += more
        except ConnectionError:
            pass
        return received


def test_a_second_request_does_not_slip_through(gate, behind):
    head = (
        f'GET /%s HTTP/1.1\r\nHost: 127.0.0.1:{port_of(gate)}\r\n%sConnection: keep-alive\r\n\r\n'
    )
    answer = raw(gate, (head % (1, '') + head % (2, 'Origin: http://evil.example\r\n')).encode())
    assert answer.count(b'200 OK') == 1 and b'403 Forbidden' in answer
    assert behind.asked == ['/1']


@pytest.mark.parametrize(
    'data',
    [
        b'GET / HTTP/1.1\r\nHost: ' + b'x' * 20_000 + b'\r\n\r\n',
        b'\x00\xff\r\n\r\n',
        b'no request\r\n\r\n',
        b'GET / HTTP/1.1\r\nCookie: \xff;;=\r\n\r\n',
    ],
    ids=['long', 'binary', 'words', 'odd'],
)
def test_nonsense_is_refused_and_the_gate_goes_on(gate, behind, data):
    assert b'page' not in raw(gate, data)
    assert not behind.asked
    assert ask(gate)[0] == 200


def test_nobody_behind_the_gate(gate, behind):
    behind.shutdown()
    behind.server_close()
    assert ask(gate)[:2] == (502, 'the page has ended')


def test_a_port_that_is_in_use(gate):
    with pytest.raises(PageError, match=f'{port_of(gate)}.*choose another port'):
        Gate('127.0.0.1', port_of(gate), ('127.0.0.1', 1))


def test_an_address_of_another_machine():
    with pytest.raises(PageError, match=r'192\.0\.2\.1'):
        Gate('192.0.2.1', free_port(), ('127.0.0.1', 1))


def test_closing_ends_open_connections(behind):
    gate = Gate('127.0.0.1', free_port(), behind.server_address)
    with socket.create_connection(('127.0.0.1', port_of(gate)), timeout=30) as waiting:
        waiting.sendall(b'GET / HT')
        gate.close()
        with suppress(ConnectionResetError):
            assert waiting.recv(10) == b''
    with pytest.raises(OSError):
        socket.create_connection(('127.0.0.1', port_of(gate)), timeout=30)
