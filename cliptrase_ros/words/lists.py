"""Words in files: a word a line, parameters of a node, or a list that comes with the package."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from ..errors import VocabularyError, did_you_mean


def word_lists() -> list[str]:
    """The lists that come with the package, as far as they are installed."""
    return sorted({path.stem for folder in _folders() for path in folder.glob('*.yaml')})


def read_words(name: str) -> tuple[list[str], list[str]]:
    """(entries, background words) of a file.

    Args:
        name: path of a file, or a name such as 'indoor'. A file `.yaml` or `.yml` holds parameters
            of the node, or a list of entries; any other an entry a line, where empty lines and
            those that begin with # do not count.

    Raises:
        VocabularyError: there is no such file, it is damaged, or it holds no words.
    """
    path = _expanded(name)
    if not path.is_file():
        path = _installed(name)
    try:
        # Editors of Windows put a mark in front.
        text = path.read_text(encoding='utf-8-sig')
        if path.suffix in ('.yaml', '.yml'):
            entries, background = _of_parameters(yaml.safe_load(text))
        else:
            lines = [line.strip() for line in text.splitlines()]
            entries, background = [x for x in lines if x and not x.startswith('#')], []
    except VocabularyError as error:
        raise VocabularyError(f'vocabulary: {path}: {error}') from error
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise VocabularyError(f'vocabulary: {path} cannot be read ({error})') from error
    if not entries:
        raise VocabularyError(
            f'vocabulary: {path} holds no words; write one a line, or in YAML a list `vocabulary` '
            'among the parameters of a node'
        )
    return entries, background


def _expanded(name: str) -> Path:
    """The path with the home folder for ~; as it is where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _of_parameters(content: object) -> tuple[list[str], list[str]]:
    """From what YAML holds: a list, or {node: {ros__parameters: {vocabulary, background}}}."""
    if isinstance(content, list):
        return _words(content), []
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
    return _words(words), _words(word for word in background if word != '')


def _words(values: Iterable[object]) -> list[str]:
    """As text. YAML reads `no`, `on`, `null` and dates as other things than words."""
    words = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise VocabularyError(
                f'entry {value!r:.60} is no word to YAML but {type(value).__name__}; quote it, '
                "such as 'no'"
            )
        words.append(str(value))
    return words


def _folders() -> list[Path]:
    """Where the lists may be: beside the sources, in the package where pip installs, and where ROS
    does."""
    package = Path(__file__).parents[1]
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    shares = [Path(p, 'share', 'cliptrase_ros') for p in prefixes if p]
    beside, *installed = (
        Path(root, 'config', 'vocabularies') for root in (package.parent, *shares)
    )
    return [beside, Path(__file__).parent / 'vocabularies', *installed]


def _installed(name: str) -> Path:
    for folder in _folders():
        if (folder / f'{name}.yaml').is_file():
            return folder / f'{name}.yaml'
    raise VocabularyError(
        f'vocabulary: no file {name!r}, and no list of that name ({", ".join(word_lists())}).'
        + did_you_mean(name, word_lists())
    )
