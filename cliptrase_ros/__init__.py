"""Training-free open-vocabulary segmentation for robots: CLIPtrase and its relatives.

import cliptrase_ros as ct

segmenter = ct.load(ct.Settings(method='cliptrase'))
words = segmenter.vocabulary(['floor', 'mug|cup', 'person'], background=['sky', 'wall'])
result = segmenter(image, words)      # image [H, W, 3] uint8 RGB -> labels, confidence
"""

from pkgutil import extend_path

# The messages may be installed elsewhere than these modules (tests from the source tree).
__path__ = extend_path(__path__, __name__)

from .backbone import Backbone
from .draw import colorize, overlay
from .errors import (
    CliptraseError,
    SettingError,
    ShapeError,
    UnsupportedBackbone,
    VocabularyError,
    WeightsError,
)
from .methods import METHODS
from .segmenter import Dense, Segmentation, Segmenter, load
from .settings import Settings
from .vocabulary import Vocabulary, WordClass

__all__ = [
    'METHODS',
    'Backbone',
    'CliptraseError',
    'Dense',
    'Segmentation',
    'Segmenter',
    'SettingError',
    'Settings',
    'ShapeError',
    'UnsupportedBackbone',
    'Vocabulary',
    'VocabularyError',
    'WeightsError',
    'WordClass',
    'colorize',
    'load',
    'overlay',
]
