"""Options of a stream of labelled images: its words, their colours, and the overlay."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import Options, option
from .colors import RGB, parse_colors


@dataclass(frozen=True)
class StreamOptions(Options):
    """The words of a stream of images and how they look. The node and the live page have these."""

    vocabulary: tuple = option(
        ('floor', 'wall', 'ceiling', 'person', 'door', 'window', 'table', 'chair'),
        'Words to look for, each [id:]name[=prompt;prompt...], such as floor or '
        '7:mug=mug;coffee cup. Words without an id get one. An id never changes.',
        live=True,
    )
    background: tuple = option(
        ('',),
        'Words for everything else in view. Pixels that they win become unlabelled. Empty entries '
        'are ignored.',
        live=True,
    )
    colors: tuple = option(
        ('',),
        'Colours of classes, each name=#rrggbb, such as floor=#8000ff. Other classes get a colour '
        'from their name. Empty entries are ignored.',
        live=True,
    )
    overlay_alpha: float = option(
        0.5, 'Share of the class colour in the overlay.', low=0.0, high=1.0, live=True
    )
    smoothing: float = option(
        0.0,
        'Weight of the earlier images in the scores of an image (exponential mean). 0: each image '
        'stands alone. Steadies the labels of a slow camera, blurs those of a fast one.',
        low=0.0,
        high=0.99,
        live=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.colors_by_name  # raise if one is bad

    @property
    def background_words(self) -> tuple[str, ...]:
        """The background words without the empty ones (ROS has no typed empty array)."""
        return not_empty(self.background)

    @property
    def colors_by_name(self) -> dict[str, RGB]:
        """The chosen colours."""
        return parse_colors(not_empty(self.colors))


def not_empty(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the entries without the empty ones."""
    return tuple(entry for entry in entries if entry.strip())
