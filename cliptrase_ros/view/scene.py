"""The large part of the page: the picture, or points and things in space."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np

from . import drawn
from .feed import Shown, ShownThing

JPEG_QUALITY = 85
POINT_M = 0.008


class Canvas:
    """Draws into viser's scene. Only the page's own thread uses it.

    Args:
        server: the ViserServer.
    """

    def __init__(self, server: Any):
        self._server, self._scene = server, server.scene
        self._scene.set_up_direction('-y')  # optical frame: x right, y down, z ahead
        self._cloud: Any = None
        self._boxes: list[tuple[Any, Any]] = []

    def draw(self, shown: Shown, mode: str, strength: float, hidden: Set[int]) -> None:
        """Draw a labelled picture; see drawn.picture and drawn.points."""
        with self._server.atomic():
            if mode in drawn.PICTURES or shown.cloud is None:
                mode = mode if mode in drawn.PICTURES else drawn.OVERLAY
                self._clear()
                self._spread(drawn.picture(shown, mode, strength, hidden))
                return
            self._spread(None)
            points, colors = drawn.points(shown.cloud, shown.legend, strength, hidden)
            if self._cloud is None:
                self._cloud = self._scene.add_point_cloud(
                    '/points', points, colors, point_size=POINT_M, point_shading='flat'
                )
            else:
                self._cloud.points, self._cloud.colors = points, colors
            colors_of = {entry.id: entry.color for entry in shown.legend}
            self._frame([t for t in shown.things if t.class_id not in hidden], colors_of)

    def _spread(self, image: np.ndarray | None) -> None:
        """Show a picture behind everything, with its aspect in the window of each browser."""
        for client in self._server.get_clients().values():
            fitted = None if image is None else drawn.fitted(image, client.camera.aspect)
            if fitted is not None or self._cloud is None:
                client.scene.set_background_image(fitted, 'jpeg', jpeg_quality=JPEG_QUALITY)

    def _frame(self, things: list[ShownThing], colors: dict[int, tuple[int, int, int]]) -> None:
        """Draw boxes with names around things.

        A browser shows a new box at the origin for a moment. So boxes are moved, not made again.
        """
        while len(self._boxes) < len(things):
            number = len(self._boxes)
            box = self._scene.add_box(f'/things/{number}', wireframe=True)
            name = self._scene.add_label(f'/names/{number}', '', anchor='bottom-center')
            self._boxes.append((box, name))
        for number, (box, name) in enumerate(self._boxes):
            box.visible = name.visible = number < len(things)
            if box.visible:
                thing = things[number]
                box.color = colors.get(thing.class_id, (255, 255, 255))
                box.dimensions = thing.size
                box.wxyz = thing.orientation
                box.position = name.position = thing.center
                name.text = thing.name

    def _unframe(self) -> None:
        for box, name in self._boxes:
            box.remove()
            name.remove()
        self._boxes.clear()

    def _clear(self) -> None:
        self._unframe()
        if self._cloud is not None:
            self._cloud.remove()
            self._cloud = None
