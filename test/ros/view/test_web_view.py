"""web_view: the page of a real node over DDS, in a real browser."""

import re
import shutil
import socket
import urllib.request

import pytest
from processes import wait_for
from rgbd import Depth, start_node
from robot import WORDS, node

pytest.importorskip('viser', reason='the extra [view] is not installed')

pytestmark = pytest.mark.xdist_group('browser')

SOFTWARE = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def serve(start, port, *parameters):
    """Start web_view; return its process when it serves the page."""
    process = start('view.web_view', [f'port:={port}', *parameters])
    wait_for(lambda: 'the page is at' in process.output, what='a page', process=process)
    return process


@pytest.fixture
def browser():
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    path = shutil.which('chromium') or shutil.which('chromium-browser')
    if path is None:
        pytest.skip('Chromium is not installed')
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=path, args=SOFTWARE)
        yield made
        made.close()


def test_it_serves_a_page_and_ends_cleanly(start, port):
    process = serve(start, port)
    assert f'the page is at http://127.0.0.1:{port}/' in process.output
    with urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=20) as answer:
        assert answer.status == 200 and b'<html' in answer.read().lower()
    assert process.end() == 0
    assert 'Traceback' not in process.output


def test_a_port_in_use_is_a_sentence(start):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        process = start('view.web_view', [f'port:={taken.getsockname()[1]}'])
        assert process.wait() == 1
    assert 'choose another port' in process.output and 'Traceback' not in process.output


@pytest.mark.parametrize(
    'parameter, reason',
    [('node:=""', 'give the name'), ('port:=0', 'port'), ('prot:=1', 'did you mean port')],
)
def test_bad_parameters(start, parameter, reason):
    process = start('view.web_view', [parameter])
    assert process.wait() == 1
    assert reason in process.output and 'Traceback' not in process.output


def test_a_person_at_the_page(robot, start, port, browser):
    """Words typed in a browser come into the label image; bad ones show the node's reason."""
    process = start_node(start, WORDS)
    depth = Depth(robot)
    depth.stream()
    serve(start, port)
    page = browser.new_page(viewport={'width': 1280, 'height': 900})
    page.goto(f'http://127.0.0.1:{port}')
    words = page.get_by_role('textbox').first
    expect = pytest.importorskip('playwright.sync_api').expect
    expect.set_options(timeout=60_000)
    expect(words).to_have_value('floor, 9:mug=mug;cup, door')
    expect(page.get_by_text('mug', exact=False).first).to_be_visible()
    words.fill('floor, floor')
    page.get_by_role('button', name='Apply').click()
    expect(page.get_by_text(re.compile("'floor'"))).to_be_visible()
    words.fill('lamp, <script>alert(1)</script>')
    page.get_by_role('button', name='Apply').click()
    wait_for(
        lambda: (
            {c.name for c in robot.vocabularies[-1].classes}
            == {'lamp', '<script>alert(1)</script>'}
        ),
        what='the words',
        process=process,
    )
    expect(page.get_by_text('<script>alert(1)</script>').first).to_be_visible()
    page.close()
    wait_for(
        lambda: robot.node.count_subscribers('/segmentation/confidence') == 0,
        what='no subscriber',
        process=process,
    )


def test_the_page_says_that_there_is_no_node(robot, start, port, browser):
    serve(start, port)
    page = browser.new_page()
    page.goto(f'http://127.0.0.1:{port}')
    expect = pytest.importorskip('playwright.sync_api').expect
    expect.set_options(timeout=60_000)
    expect(page.get_by_text('/segmentation is not running')).to_be_visible()
    node(start, WORDS)
    robot.stream()
    expect(page.get_by_role('textbox').first).to_have_value('floor, 9:mug=mug;cup, door')
