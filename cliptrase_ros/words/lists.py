"""Word files: one word per line, parameters of a node, or a list that comes with the package."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from ..errors import VocabularyError, did_you_mean
from .decoding import decoded


def word_lists() -> list[str]:
    """Return the names of the installed lists of the package."""
    return sorted({path.stem for folder in _folders() for path in folder.glob('*.yaml')})


def read_words(name: str) -> tuple[list[str], list[str]]:
    """Read (entries, background words) from a file.

    Args:
        name: path of a file, or name of a list of the package, such as 'indoor'. A `.yaml` or
            `.yml` file holds parameters of the node, or a list of entries. Any other file holds
            one entry per line; empty lines and lines that begin with # are skipped.

    Raises:
        VocabularyError: the file does not exist, is damaged or no text, or holds no words.
    """
    path = _expanded(name)
    if not path.is_file():
        path = _installed(name)
    try:
        text = decoded(path.read_bytes())
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
            f'vocabulary: {path} holds no words; write one word per line, or in YAML a list '
            '`vocabulary` in the parameters of a node'
        )
    return entries, background


def _expanded(name: str) -> Path:
    """Return the path with ~ replaced by the home folder; unchanged if there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _of_parameters(content: object) -> tuple[list[str], list[str]]:
    """Return (entries, background words) of parsed YAML.

    It is a list, {vocabulary, background} or {node: {ros__parameters: {vocabulary, background}}}.
    """
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
    # An empty list has no type in ROS, so [''] means empty.
    return _words(words), _words(word for word in background if word != '')


def _words(values: Iterable[object]) -> list[str]:
    """Return the values as text.

    Raise VocabularyError for values that YAML does not read as words: `no`, `on`, `null`, dates.
    """
    words = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise VocabularyError(
                f'YAML reads entry {value!r:.60} as {type(value).__name__}, not as a word; quote '
                "it, such as 'no'"
            )
        words.append(str(value))
    return words


def _folders() -> list[Path]:
    """Return the folders to search: next to the sources, in the package (pip), and those of ROS."""
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
        f'vocabulary: no file {name!r}, and no list with this name ({", ".join(word_lists())}).'
        + did_you_mean(name, word_lists())
    )
