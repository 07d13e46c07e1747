"""Explains parameters that ROS cannot read, or reads differently from what was meant.

rcl parses files and `-p` before a node exists, and its errors name lines of its own source. Keys
that appear twice and sections for another node cause no error at all.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from ..options import NULLS

PARAMETERS = 'ros__parameters'

_BELOW = f'and below it {PARAMETERS}:, and below that the parameters'
# PyYAML's own rules differ: it does not know y and n.
_BOOLEAN = re.compile('y|yes|true|on|n|no|false|off', re.IGNORECASE)
_WILDCARDS = {'/**': r'(/\w+)*', '/*': r'/\w+'}


@dataclass(frozen=True)
class Written:
    """A parameters file, or one `-p NAME:=VALUE`.

    Attributes:
        name: how messages name it.
        text: YAML.
        fault: why it has no text, or ''.
        key: NAME of a `-p`; '' for a file.
    """

    name: str
    text: str
    fault: str = ''
    key: str = ''

    def at(self, node: yaml.Node) -> str:
        """Return the place of a YAML node, for messages."""
        return self.name if self.key else f'{self.name}, line {node.start_mark.line + 1}'

    def documents(self) -> tuple[yaml.Node, ...]:
        """Return the YAML documents, unresolved. Raise yaml.YAMLError if it is not YAML."""
        return _composed(self.text)


@lru_cache
def _composed(text: str) -> tuple[yaml.Node, ...]:
    # A start looks twice at a file, and PyYAML needs 18 ms for all parameters.
    return tuple(yaml.compose_all(text, Loader=yaml.SafeLoader))


def given(arguments: Sequence[str]) -> Iterator[Written]:
    """Find the parameters files and `-p` among the arguments of a process."""
    of_ros = False
    for flag, value in zip(arguments, [*arguments[1:], ''], strict=True):
        if flag in ('--ros-args', '--'):
            of_ros = flag == '--ros-args'
        elif of_ros and flag == '--params-file' and value:
            yield _file(value)
        elif of_ros and flag in ('-p', '--param'):
            key, sign, text = value.partition(':=')
            fault = '' if sign else f'-p {value}: write -p NAME:=VALUE, such as -p smoothing:=0.5'
            yield Written(f'-p {value}', text, fault, key)


def _file(name: str) -> Written:
    path = Path(name)
    try:
        data = path.read_bytes()
        utf16 = data[:2] in (b'\xff\xfe', b'\xfe\xff')  # rcl reads it, too
        return Written(name, data.decode('utf-16' if utf16 else 'utf-8-sig'))
    except UnicodeDecodeError:
        return Written(name, '', f'parameters file {name} is not text in UTF-8')
    except OSError as error:
        why = f'cannot be read: {error.strerror}' if path.exists() else 'does not exist'
        return Written(name, '', f'parameters file {name} {why}')


@contextlib.contextmanager
def filled(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments with copies of the parameters files that have keys without a value.

    rcl refuses such keys. In the copies their value is null.
    """
    with contextlib.ExitStack() as stack:
        copies: dict[str, str] = {}
        for source in given(arguments):
            text = source.text if source.key else _filled(source)
            if text != source.text:
                copy = stack.enter_context(
                    tempfile.NamedTemporaryFile('w', suffix='.yaml', encoding='utf-8')
                )
                copy.write(text)
                copy.flush()
                copies[source.name] = copy.name
        yield [copies.get(one, one) for one in arguments]


def _filled(source: Written) -> str:
    text = source.text
    with contextlib.suppress(yaml.YAMLError):
        roots = [root for root in source.documents() if isinstance(root, yaml.MappingNode)]
        sections = [section for root in roots for _, section in _sections(root)]
        leaves = [leaf for section in sections for _, _, leaf in _leaves(section)]
        for place in sorted((n.start_mark.index for n in leaves if _is_empty(n)), reverse=True):
            text = f'{text[:place]} null{text[place:]}'
    return text


def explained(arguments: Sequence[str], error: Exception) -> str:
    """Return in one sentence why rcl refused the arguments of a process."""
    for source in given(arguments):
        if fault := source.fault or next(_faults(source), ''):
            return fault
    said = re.sub(r', at \S+:\d+|\n', '', str(error)).removeprefix('failed to initialize rcl: ')
    hint = '. Quote texts with special characters' if 'parsing a event' in said else ''
    return f'ROS cannot read the arguments: {said}{hint}'


def _faults(source: Written) -> Iterator[str]:
    """Find what rcl cannot read."""
    try:
        documents = source.documents()
    except yaml.YAMLError as error:
        yield _syntax(source, error)
        return
    for event in yaml.parse(source.text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            yield f'{source.name}, line {line}: ROS knows no aliases (*). Write the value again'
    if source.key:
        if not documents:
            yield f'{source.name}: there is no value after :=. Write [] for an empty list'
        for root in documents:
            yield from _in_value(source, source.key, root)
        return
    for root in documents:
        if isinstance(root, yaml.MappingNode):
            yield from _in_sections(source, root)
        else:
            yield f'{source.at(root)}: expected the name of a node or /**:, {_BELOW}'


def _in_sections(source: Written, root: yaml.MappingNode) -> Iterator[str]:
    """Find bad values, and values that are not below ros__parameters."""
    for key, value in root.value:
        mapping = isinstance(value, yaml.MappingNode)
        if key.value == PARAMETERS and not mapping:
            yield f'{source.at(key)}: no parameters are below {PARAMETERS}. Write name: value there'
        elif key.value == PARAMETERS:
            for name, _, leaf in _leaves(value):
                yield from _in_value(source, name, leaf)
        elif mapping:
            yield from _in_sections(source, value)
        else:
            yield (
                f'{source.at(key)}: {key.value} is not below {PARAMETERS}. Write the name of the '
                f'node or /**:, {_BELOW}'
            )


def _in_value(source: Written, name: str, node: yaml.Node) -> Iterator[str]:
    """Find lists of lists, and lists of several types."""
    entries = node.value if isinstance(node, yaml.SequenceNode) else []
    for entry in entries:
        if isinstance(entry, yaml.SequenceNode):
            yield f'{source.at(entry)}: {name} has a list in a list. Write one list of texts'
        elif _is_empty(entry):
            yield f'{source.at(entry)}: {name} has an empty entry. Remove it'
    kinds = [_kind(entry) for entry in entries]
    if len(set(kinds)) > 1:
        pairs = zip(entries, kinds, strict=True)
        quoted = ', '.join(f'"{entry.value}"' for entry, kind in pairs if kind != 'text')
        yield (
            f'{source.at(node)}: the list {name} has several types, because YAML reads some words '
            f'as numbers or as true and false. Quote them: {quoted}'
        )


def _syntax(source: Written, error: yaml.YAMLError) -> str:
    mark = getattr(error, 'problem_mark', None)
    if mark is None:
        return f'{source.name} is not YAML: {error}'
    line = [*source.text.splitlines(), ''][mark.line]
    indent = line[: len(line) - len(line.lstrip())]
    tab = 'there is a tab before the text. Indent with spaces'
    place = '' if source.key else f', line {mark.line + 1}'
    problem = tab if '\t' in indent else f'not YAML: {getattr(error, "problem", error)}'
    return f'{source.name}{place}: {problem}'


def doubts(arguments: Sequence[str], node_name: str) -> Iterator[str]:
    """Find parameters that ROS reads, but not as they were meant. Give a sentence for each.

    Args:
        node_name: full name of the node, such as '/robot1/segmentation'.
    """
    for source in given(arguments):
        try:
            documents = source.documents()
        except yaml.YAMLError:
            continue  # rcl has read it, so it is something that PyYAML does not know
        if source.fault:
            continue
        if source.key:
            yield from _doubts_in_value(source, documents, node_name)
        else:
            yield from _doubts_in_file(source, documents, node_name)


def _doubts_in_value(
    source: Written, documents: Sequence[yaml.Node], node_name: str
) -> Iterator[str]:
    target, colon, name = source.key.rpartition(':')
    if colon and f'/{target}' != node_name:
        yield f'{source.name} is ignored: it is for /{target}, but this node is {node_name}'
    else:
        for root in documents:
            yield from _odd_entries(source, name, root)


def _doubts_in_file(
    source: Written, documents: Sequence[yaml.Node], node_name: str
) -> Iterator[str]:
    sections: dict[str, list[yaml.MappingNode]] = {}
    for root in documents:
        if isinstance(root, yaml.MappingNode):
            for name, section in _sections(root):
                sections.setdefault(name, []).append(section)
    own = [found for name, found in sections.items() if _matches(name, node_name)]
    if not any(section.value for found in sections.values() for section in found):
        yield f'parameters file {source.name} holds no parameters: the defaults are used'
    elif not own:
        yield (
            f'parameters file {source.name} is ignored: it is for {", ".join(sections)}, but this '
            f'node is {node_name}. Write {node_name}: or /**: in the file'
        )
    for found in own:
        first: dict[str, int] = {}
        for name, key, value in (leaf for section in found for leaf in _leaves(section)):
            if name in first:
                yield (
                    f'{source.at(key)}: {name} is given twice, first in line {first[name]}. The '
                    'last value counts'
                )
            first[name] = key.start_mark.line + 1
            yield from _odd_entries(source, name, value)


def _odd_entries(source: Written, name: str, node: yaml.Node) -> Iterator[str]:
    """Find entries of a list that ROS takes for words, or for names of parameters."""
    for entry in node.value if isinstance(node, yaml.SequenceNode) else ():
        if isinstance(entry, yaml.MappingNode):
            pairs = ', '.join(f'{key.value}: {value.value}' for key, value in entry.value)
            yield f'{source.at(entry)}: {name} has an entry with a colon. Quote it: "{pairs}"'
        elif _is_bare(entry) and entry.value in NULLS:
            yield (
                f'{source.at(entry)}: {name} has the entry {entry.value}, which ROS takes for a '
                f'word. Remove it, or write "{entry.value}" if you mean the word'
            )


def _sections(root: yaml.MappingNode, prefix: str = '') -> Iterator[tuple[str, yaml.MappingNode]]:
    """Find (name of the nodes, their parameters)."""
    for key, value in root.value:
        if key.value == PARAMETERS and isinstance(value, yaml.MappingNode):
            yield prefix, value
        elif isinstance(value, yaml.MappingNode):
            yield from _sections(value, f'{prefix}/{key.value.strip("/")}')


def _leaves(node: yaml.MappingNode, prefix: str = '') -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Find (full name, key, value) of the parameters of a section."""
    for key, value in node.value:
        name = f'{prefix}{key.value}'
        if isinstance(value, yaml.MappingNode):
            yield from _leaves(value, f'{name}.')
        else:
            yield name, key, value


def _matches(name: str, node_name: str) -> bool:
    """Return True if parameters for `name` are for this node. As in rcl, /* stands for one part of
    a name, and /** for any number of parts."""
    parts = re.split(r'(/\*\*|/\*)', name)
    pattern = ''.join(_WILDCARDS.get(part, re.escape(part)) for part in parts)
    return bool(re.fullmatch(pattern, node_name))


def _is_bare(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _is_empty(node: yaml.Node) -> bool:
    return _is_bare(node) and not node.value


def _kind(node: yaml.Node) -> str:
    """Return the type that rcl gives an entry of a list."""
    if not _is_bare(node) or '_' in node.value:
        return 'text'
    if _BOOLEAN.fullmatch(node.value):
        return 'bool'
    text = re.sub(r'^([-+]?)\.(inf|nan)$', r'\1\2', node.value, flags=re.IGNORECASE)
    for kind, parse in (('int', lambda text: int(text, 0)), ('float', float)):
        try:
            parse(text)
            return kind
        except ValueError:
            pass
    return 'text'
