"""web_view: the live page on a running segmentation node."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rclpy.node import Node

from ...errors import CliptraseError, SettingError
from ...options import Options, option
from ...view.page import Page
from .. import parameters
from ..shutdown import run
from .feeder import NodeFeed


@dataclass(frozen=True)
class ViewOptions(Options):
    """The parameters of web_view."""

    node: str = option(
        'segmentation',
        'Name of the segmentation node to show. A relative name is in the namespace of this node.',
    )
    host: str = option(
        '127.0.0.1',
        'Address to listen on. Any other than 127.0.0.1 lets other machines in; the address of the '
        'page then has a secret token.',
    )
    port: int = option(8765, 'Port of the page.', low=1, high=65535)


class WebView(Node):
    """Serves the page until the node is ended."""

    def __init__(self, **kwargs):
        super().__init__('web_view', **kwargs)
        parameters.declare(self, ViewOptions)
        options = parameters.read_options(self, ViewOptions)
        if not options.node.strip('/'):
            raise SettingError('node: it is empty; give the name of a segmentation node')
        self._feed = NodeFeed(self, self._full_name(options.node))
        try:
            self._page = Page(self._feed, options.host, options.port)
        except CliptraseError:
            self._feed.close()
            raise
        self.get_logger().info(f'the page is at {self._page.address}')

    def destroy_node(self) -> None:
        """Close the page and destroy the node."""
        self._feed.close()  # first: the page waits for its calls
        self._page.close()
        super().destroy_node()

    def _full_name(self, name: str) -> str:
        namespace = '' if name.startswith('/') else self.get_namespace().rstrip('/') + '/'
        return namespace + name


def main(args: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM. Return 1 if the page cannot be served or a parameter is bad."""
    return run('web_view', WebView, args)


if __name__ == '__main__':
    sys.exit(main())
