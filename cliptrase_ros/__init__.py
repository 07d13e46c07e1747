"""Training-free open-vocabulary segmentation for robots: CLIPtrase and its relatives.

    import cliptrase_ros as ct

    segmenter = ct.load(ct.Settings(method='cliptrase'))
    words = segmenter.vocabulary(['floor', 'mug|cup', 'person'], background=['sky', 'wall'])
    result = segmenter(image, words)      # image [H, W, 3] uint8 RGB -> labels, confidence

Names are imported on first use: whoever reads only the messages (`ros2 topic echo`, another
node) does not wait for torch, nor need it.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING

# The messages may be installed elsewhere than these modules (tests from the source tree).
__path__ = extend_path(__path__, __name__)

if TYPE_CHECKING:
    from .encoder import Dense as Dense
    from .errors import CliptraseError as CliptraseError
    from .errors import OutOfMemory as OutOfMemory
    from .errors import PictureError as PictureError
    from .errors import SettingError as SettingError
    from .errors import ShapeError as ShapeError
    from .errors import UnsupportedBackbone as UnsupportedBackbone
    from .errors import VocabularyError as VocabularyError
    from .errors import WeightsError as WeightsError
    from .media.drawing import colorize as colorize
    from .media.drawing import overlay as overlay
    from .methods.table import METHODS as METHODS
    from .model.backbone import Backbone as Backbone
    from .segmenter import Segmentation as Segmentation
    from .segmenter import Segmenter as Segmenter
    from .segmenter import load as load
    from .settings import Settings as Settings
    from .words.vocabulary import Vocabulary as Vocabulary
    from .words.vocabulary import WordClass as WordClass

_MODULE_OF = {
    'METHODS': 'methods.table',
    'Backbone': 'model.backbone',
    'CliptraseError': 'errors',
    'Dense': 'encoder',
    'OutOfMemory': 'errors',
    'PictureError': 'errors',
    'Segmentation': 'segmenter',
    'Segmenter': 'segmenter',
    'SettingError': 'errors',
    'Settings': 'settings',
    'ShapeError': 'errors',
    'UnsupportedBackbone': 'errors',
    'Vocabulary': 'words.vocabulary',
    'VocabularyError': 'errors',
    'WeightsError': 'errors',
    'WordClass': 'words.vocabulary',
    'colorize': 'media.drawing',
    'load': 'segmenter',
    'overlay': 'media.drawing',
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'.{_MODULE_OF[name]}', __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
