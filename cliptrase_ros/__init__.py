"""Training-free open-vocabulary segmentation for robots: CLIPtrase and its relatives.

    import cliptrase_ros as ct

    segmenter = ct.load(ct.Settings(method='cliptrase'))
    words = segmenter.vocabulary(['floor', 'mug|cup', 'person'], background=['sky', 'wall'])
    result = segmenter(image, words)      # image [H, W, 3] uint8 RGB -> labels, confidence

Names are imported on first use. So programs that only read the messages (`ros2 topic echo`, another
node) do not need torch and do not wait for it.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import demo as demo
    from .demo.world import World as World
    from .encoder import EncodedImage as EncodedImage
    from .errors import Cancelled as Cancelled
    from .errors import CliptraseError as CliptraseError
    from .errors import OutOfMemory as OutOfMemory
    from .errors import PictureError as PictureError
    from .errors import SettingError as SettingError
    from .errors import ShapeError as ShapeError
    from .errors import UnsupportedBackbone as UnsupportedBackbone
    from .errors import VocabularyError as VocabularyError
    from .errors import WeightsError as WeightsError
    from .evaluation.metrics import Confusion as Confusion
    from .media.drawing import colorize as colorize
    from .media.drawing import overlay as overlay
    from .media.pictures import list_pictures as list_pictures
    from .media.pictures import read_picture as read_picture
    from .methods.table import METHODS as METHODS
    from .model.backbone import Backbone as Backbone
    from .model.text import TextEncoder as TextEncoder
    from .model.weights import download as download
    from .model.weights import load_model as load_model
    from .segmenter import Segmentation as Segmentation
    from .segmenter import Segmenter as Segmenter
    from .segmenter import load as load
    from .settings import Settings as Settings
    from .space import clouds as clouds
    from .space import geometry as geometry
    from .space import objects as objects
    from .space import views as views
    from .space.groups import Group as Group
    from .space.groups import parse_groups as parse_groups
    from .video.smoothing import Smoother as Smoother
    from .words.colors import parse_colors as parse_colors
    from .words.lists import read_words as read_words
    from .words.lists import word_lists as word_lists
    from .words.templates import TEMPLATES as TEMPLATES
    from .words.vocabulary import Ids as Ids
    from .words.vocabulary import Vocabulary as Vocabulary
    from .words.vocabulary import WordClass as WordClass
    from .words.vocabulary import parse_vocabulary as parse_vocabulary

# The module that defines each name. If the module has that name, the name is the module itself.
_HOME_OF = {
    'METHODS': 'methods.table',
    'TEMPLATES': 'words.templates',
    'Backbone': 'model.backbone',
    'Cancelled': 'errors',
    'CliptraseError': 'errors',
    'Confusion': 'evaluation.metrics',
    'EncodedImage': 'encoder',
    'Group': 'space.groups',
    'Ids': 'words.vocabulary',
    'OutOfMemory': 'errors',
    'PictureError': 'errors',
    'Segmentation': 'segmenter',
    'Segmenter': 'segmenter',
    'SettingError': 'errors',
    'Settings': 'settings',
    'ShapeError': 'errors',
    'Smoother': 'video.smoothing',
    'TextEncoder': 'model.text',
    'UnsupportedBackbone': 'errors',
    'Vocabulary': 'words.vocabulary',
    'VocabularyError': 'errors',
    'WeightsError': 'errors',
    'WordClass': 'words.vocabulary',
    'World': 'demo.world',
    'clouds': 'space.clouds',
    'colorize': 'media.drawing',
    'demo': 'demo',
    'download': 'model.weights',
    'geometry': 'space.geometry',
    'list_pictures': 'media.pictures',
    'load': 'segmenter',
    'load_model': 'model.weights',
    'objects': 'space.objects',
    'overlay': 'media.drawing',
    'parse_colors': 'words.colors',
    'parse_groups': 'space.groups',
    'parse_vocabulary': 'words.vocabulary',
    'read_picture': 'media.pictures',
    'read_words': 'words.lists',
    'views': 'space.views',
    'word_lists': 'words.lists',
}
__all__ = list(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    home = _HOME_OF[name]
    value = import_module(f'.{home}', __name__)
    if home.rpartition('.')[2] != name:
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])


class _BuiltMessages:
    """Import finder that finds only the messages of another installation.

    A source tree has no messages: they are built and installed elsewhere. All other modules come
    from this folder, so that modules of an older version are never mixed in.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, part = name.rpartition('.')
        built = part in ('msg', 'srv') or part.startswith('cliptrase_ros_s__')
        if package != __name__ or not built:
            return None
        return PathFinder.find_spec(name, extend_path(list(__path__), __name__), target)


if not Path(__path__[0], 'msg').is_dir():
    sys.meta_path.append(_BuiltMessages)
