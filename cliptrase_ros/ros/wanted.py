"""What the parameters ask for, and the slow work to prepare it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from rclpy.task import Future

from ..errors import did_you_mean
from ..model.backbone import Backbone
from ..segmenter import Segmenter, load
from ..settings import IMAGE, LABELS, WORDS, Settings
from .parameters import NodeOptions


@dataclass(frozen=True)
class Wanted:
    """A change that takes time: words to encode, or an encoder of images to prepare.

    Attributes:
        words: everything that decides which words there are.
        image: the settings that the encoder of images reads.
        backbone: the model.
        outcome: '' once the change is live, or why it is not.
    """

    words: tuple
    image: Settings
    backbone: Backbone
    outcome: Future = field(compare=False)


def wanted(options: NodeOptions, settings: Settings, base: Segmenter, outcome: Future) -> Wanted:
    """Return what the parameters ask for, with the model of `base`."""
    words = options.vocabulary, options.background, *settings.of_scope(WORDS).values()
    image = Settings.from_mapping(settings.of_scope(IMAGE))
    return Wanted(words, image, base.backbone, outcome)


def applied(options: NodeOptions, settings: Settings) -> tuple:
    """Return the parameters that can be applied at once."""
    named = options.points.groups, options.target_classes, options.object_classes
    return options.colors, *named, settings.of_scope(LABELS)


def missing_names(options: NodeOptions, known: Collection[str]) -> list[str]:
    """Return a sentence for each name in `points`, `target` and `objects` that is no class."""
    named = {f'points.groups: {g.name}': g.classes for g in options.groups_by_topic.values()}
    named |= {'target.classes': options.target_classes, 'objects.classes': options.object_classes}
    return [
        f'{where}: {name!r} is not among the classes.{did_you_mean(name, known)}'
        for where, names in named.items()
        for name in names
        if name not in known
    ]


def ready(settings: Settings) -> Segmenter:
    """Load the model and prepare it for the first images.

    Raises:
        CliptraseError: see `Backbone.load`.
    """
    segmenter = load(settings)
    segmenter.warm_up()
    return segmenter


def prepared(base: Segmenter, settings: Settings, sizes: Collection[tuple[int, int]]) -> Segmenter:
    """Return a segmenter with the model of `base` and these settings, prepared for images of these
    sizes (H, W) if its encoder is a new one.

    Raises:
        SettingError: see `Segmenter.replace`.
        OutOfMemory: there is not enough memory for an image.
    """
    segmenter = base.replace(**settings.of_scope(IMAGE, WORDS, LABELS))
    if segmenter.encoder is not base.encoder:
        for size in sizes:
            segmenter.warm_up(size)
    return segmenter
