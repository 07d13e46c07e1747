"""Words in files: a word a line, parameters of a node, or a list that comes with the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from .errors import VocabularyError, did_you_mean

_BESIDE = Path('config', 'vocabularies')


def names() -> list[str]:
    """The lists that come with the package, as far as they are installed."""
    return sorted({path.stem for folder in _folders() for path in folder.glob('*.yaml')})


def read(name: str) -> tuple[list[str], list[str]]:
    """(entries, background words) of a file.

    Args:
        name: path of a file, or a name such as 'indoor'. A file `.yaml` or `.yml` holds parameters
            of the node, or a list of entries; any other an entry a line, where empty lines and
            those that begin with # do not count.

    Raises:
        VocabularyError: there is no such file, or it holds no words.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = _installed(name)
    try:
        text = path.read_text(encoding='utf-8')
        if path.suffix in ('.yaml', '.yml'):
            entries, background = _of_parameters(yaml.safe_load(text))
        else:
            lines = [line.strip() for line in text.splitlines()]
            entries, background = [x for x in lines if x and not x.startswith('#')], []
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise VocabularyError(f'vocabulary: {path} cannot be read ({error})') from error
    if not entries:
        raise VocabularyError(
            f'vocabulary: {path} holds no words; write one a line, or in YAML a list `vocabulary` '
            'among the parameters of a node'
        )
    return entries, background


def _of_parameters(content: object) -> tuple[list[str], list[str]]:
    """From what YAML holds: a list, or {node: {ros__parameters: {vocabulary, background}}}."""
    if isinstance(content, list):
        return [str(entry) for entry in content], []
    if isinstance(content, dict):
        for value in content.values():
            if isinstance(value, dict) and isinstance(value.get('ros__parameters'), dict):
                return _of_mapping(value['ros__parameters'])
        return _of_mapping(content)
    return [], []


def _of_mapping(values: dict) -> tuple[list[str], list[str]]:
    words, background = (values.get(name) or [] for name in ('vocabulary', 'background'))
    if not isinstance(words, list) or not isinstance(background, list):
        return [], []
    # ROS has no typed empty list: [''] stands for one.
    return [str(entry) for entry in words], [str(word) for word in background if word != '']


def _folders() -> list[Path]:
    """Where the lists may be: beside the sources, where ROS installs, where pip does."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    shares = [Path(p, 'share', 'cliptrase_ros') for p in (*prefixes, sys.prefix) if p]
    return [root / _BESIDE for root in (Path(__file__).parents[1], *shares)]


def _installed(name: str) -> Path:
    for folder in _folders():
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
    raise VocabularyError(
        f'vocabulary: no file {name!r}, and no list of that name ({", ".join(names())}).'
        + did_you_mean(name, names())
    )
