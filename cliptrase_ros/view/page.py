"""The live page in the browser: labelled pictures, and a box for words."""

from __future__ import annotations

import contextlib
import io
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import drawn
from .feed import Controls, Feeder, Shown, Status, Value
from .legend import Legend
from .needs import PageError, require_viser
from .panel import Panel
from .scene import Canvas

log = logging.getLogger(__name__)

PORT = 8765


class Page:
    """Serves a page for any number of browsers, and shows on it what a feed gives.

    The feed is told when the first browser comes and when the last one leaves; without a browser
    nothing is drawn. All browsers see the same page.

    Args:
        feed: closed together with the page.
        host: address to listen on. Any other than 127.0.0.1 lets other machines in; then a token
            in the address is needed.
        port: of the page.

    Attributes:
        address: of the page, for a browser.

    Raises:
        PageError: viser is not installed, or the address cannot be used.
    """

    def __init__(self, feed: Feeder, host: str = '127.0.0.1', port: int = PORT):
        require_viser()
        import viser  # takes a second

        from .gate import Gate

        logging.getLogger('websockets').setLevel(logging.CRITICAL)  # a browser that goes away
        self._feed = feed
        self._news: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._shown: Shown | None = None
        self._browsers, self._closed = 0, False
        # Loopback has 2^24 addresses. Nobody finds this one, and so nobody goes around the gate.
        inside = '127.' + '.'.join(str(1 + secrets.randbelow(254)) for _ in range(3))
        with _quiet():
            port_inside = 20000 + secrets.randbelow(20000)
            server: Any = viser.ViserServer(inside, port_inside, verbose=False)
        self._server = server
        try:
            self._gate = Gate(host, port, (inside, self._server.get_port()))
        except PageError:
            self._stop()
            raise
        self.address = self._gate.address
        self._furnish()
        self._calls = ThreadPoolExecutor(1, 'page calls')
        self._thread = threading.Thread(target=self._draw, name='page', daemon=True)
        self._thread.start()
        self._server.on_client_connect(self._came)
        self._server.on_client_disconnect(self._left)
        feed.start(self)

    def _furnish(self) -> None:
        server, gui = self._server, self._server.gui
        gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        gui.set_panel_label('cliptrase')
        self._scene = Canvas(server)
        self._panel = Panel(gui, self._apply, self._redraw)
        self._cameras: Any = None
        with self._panel.look:
            if self._feed.can_pause:
                pause = gui.add_checkbox('Pause', initial_value=False)
                pause.on_update(lambda event: self._call(self._feed.pause, event.target.value))
                gui.add_button('Step').on_click(lambda _: self._call(self._feed.step))
            save = gui.add_button('Save', hint='labels, confidence, overlay, and the words')
            save.on_click(lambda event: self._save(event.client))
        self._legend = Legend(gui, self._redraw)

    # Called by the feed, on any thread

    def show(self, shown: Shown) -> None:
        """Show a labelled picture. The newest replaces one that is not drawn yet."""
        self._put('shown', shown)

    def status(self, status: Status) -> None:
        """Show numbers and sentences."""
        self._put('status', status)

    def controls(self, controls: Controls) -> None:
        """Show the present settings."""
        self._put('controls', controls)

    def cameras(self, names: tuple[str, ...], chosen: str) -> None:
        """Show these cameras in a drop-down, if there are several."""
        self._put('cameras', (names, chosen))

    def close(self) -> None:
        """Close the page and its feed. A second call does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._calls.shutdown(cancel_futures=True)
        self._feed.close()
        self._gate.close()
        self._stop()

    def _stop(self) -> None:
        with _quiet():
            self._server.stop()

    # Browsers

    def _came(self, client: Any) -> None:
        client.camera.position, client.camera.look_at = (0.0, -0.5, -1.0), (0.0, 0.0, 1.5)
        aspect = client.camera.aspect

        def moved(camera: Any) -> None:
            nonlocal aspect
            if camera.aspect != aspect:
                aspect = camera.aspect
                self._redraw()

        client.camera.on_update(moved)
        self._count(1)
        self._redraw()

    def _left(self, _: Any) -> None:
        self._count(-1)

    def _count(self, more: int) -> None:
        with self._changed:
            before, self._browsers = self._browsers, self._browsers + more
            if bool(before) != bool(self._browsers):
                watched = bool(self._browsers)
                self._call(lambda: self._feed.watched(watched))

    def _apply(self, changes: Mapping[str, Value]) -> None:
        self._put('answer', ('', 'applying ...'))
        self._call(lambda: self._put('answer', (self._feed.apply(changes), '')))

    def _save(self, client: Any) -> None:
        shown = self._shown
        if client is not None and shown is not None:
            content = drawn.archive(shown, self._panel.strength.value, self._feed.parameters())
            client.send_file_download('cliptrase.zip', content, save_immediately=True)

    def _call(self, function: Callable[..., object], *given: Any) -> None:
        """Call the feed on the thread for that, one call at a time."""
        if not self._closed:
            self._calls.submit(self._survive, function, *given)

    # On the page's own thread

    def _redraw(self) -> None:
        self._put('redraw', True)

    def _put(self, name: str, value: Any) -> None:
        with self._changed:
            self._news[name] = value
            self._changed.notify_all()

    def _draw(self) -> None:
        """Show what is new until the page is closed; of several, only the newest."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._news or self._closed)
                if self._closed:
                    return
                news, self._news = self._news, {}
            self._survive(self._take, news)

    def _take(self, news: Mapping[str, Any]) -> None:
        panel = self._panel
        if 'controls' in news:
            panel.controls(news['controls'])
        if 'answer' in news:
            panel.say(*news['answer'])
        if 'status' in news:
            panel.status(news['status'])
        if 'cameras' in news:
            self._offer(*news['cameras'])
        self._shown = news.get('shown', self._shown)
        if self._browsers and self._shown and ('shown' in news or 'redraw' in news):
            if self._shown.cloud is not None:
                panel.offer_points()
            self._legend.show(self._shown)
            hidden = self._legend.hidden
            self._scene.draw(self._shown, panel.mode.value, panel.strength.value, hidden)

    def _offer(self, names: tuple[str, ...], chosen: str) -> None:
        if self._cameras is not None and tuple(self._cameras.options) == names:
            if self._cameras.value != chosen:
                self._cameras.value = chosen
            return
        if self._cameras is not None:
            self._cameras.remove()
            self._cameras = None
        if len(names) > 1:
            with self._panel.look:
                self._cameras = self._server.gui.add_dropdown('Camera', names, initial_value=chosen)
            self._cameras.on_update(self._chose)

    def _chose(self, event: Any) -> None:
        if event.client is not None:  # a browser, not the page itself
            self._call(self._feed.choose, event.target.value)

    def _survive(self, function: Callable[..., object], *given: Any) -> None:
        try:
            function(*given)
        except Exception:  # of any kind: the page must go on
            log.exception('the page could not do what was asked')


def _quiet() -> contextlib.AbstractContextManager:
    """Keep back what viser prints, such as its own address."""
    return contextlib.redirect_stdout(io.StringIO())
