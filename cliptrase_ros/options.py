"""Options declared once: the type, range, words and documentation of each, in named groups.

The ROS parameters, the flags of the command, `config/segmentation.yaml` and `doc/parameters.md` are
made from these declarations, or a test holds them equal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from .errors import SettingError, did_you_mean, nearest

Declared = TypeVar('Declared', bound='Options')

# How YAML writes null. ROS passes it on as text.
NULLS = ('null', 'Null', 'NULL', '~', 'None')

_QUOTE = '. Quote words that YAML reads as a number or as true and false, such as "no" and "1"'

_EXPECTED = {
    bool: 'true or false',
    int: 'an integer',
    float: 'a number',
    str: 'text',
    tuple: 'a list of texts',
}


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: with the names of its groups, such as 'cluster.eps'.
        kind: bool, int, float, str or tuple (of texts).
        choices: the only values of a text; empty: any text.
        words: allowed instead of a number or text: 'auto' (chosen automatically), 'none' (off, or
            no limit).
        low, high: range of a number, both included.
        live: may change while a node runs.
        scope: which part of the work reads it; see `settings.MODEL` and the others there.
    """

    name: str
    default: Any
    kind: type
    doc: str
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    live: bool = False
    scope: str = ''

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return f'one of {", ".join(self.choices)}'
        return ' or '.join([_EXPECTED[self.kind], *self.words])

    def checked(self, value: Any) -> Any:
        """Check a value and convert it: an int to float where a float is expected, numpy numbers to
        Python's, None to 'none', a list to a tuple.

        Raises:
            SettingError: wrong type, out of range, or none of the choices.
        """
        if getattr(value, 'ndim', None) == 0:  # a number of numpy
            value = value.item()
        named = self.choices or self.words
        if value is None and 'none' in named:
            return 'none'
        if isinstance(value, str) and value in named:
            return value
        if self.kind is tuple:
            return self._texts(value)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise self._refused(value)
        if self.choices:
            raise SettingError(
                f'{self.name}: {value!r} is not one of {", ".join(self.choices)}.'
                + did_you_mean(str(value), self.choices)
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_range(value)
        return value

    def from_text(self, text: str) -> Any:
        """Parse what a person typed, such as '0.7', 'auto' or 'true'. The range is not checked.

        Raises:
            SettingError: wrong type.
        """
        if text in NULLS:
            return self.checked(None)
        if text in self.words:
            return text
        try:
            if self.kind is bool:
                return {'true': True, 'false': False}[text.lower()]
            return self.kind(text)
        except (ValueError, KeyError):
            raise self._refused(text) from None

    def _check_range(self, value: float) -> None:
        if not math.isfinite(value):
            raise self._refused(value)
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            words = ''.join(f', and not {word}' for word in self.words)
            raise SettingError(
                f'{self.name}: {value!r} is outside {self.low} .. {self.high}{words}'
            )

    def _texts(self, value: Any) -> tuple[str, ...]:
        if value is None:  # ROS reads an empty list of YAML as no value
            return ()
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise self._refused(value)
        values = tuple(value)
        for one in values:
            if not isinstance(one, str):
                raise self._refused(one)
        return values

    def _refused(self, value: Any) -> SettingError:
        kind = 'nothing (null)' if value is None else f'{type(value).__name__} {value!r}'
        listed = isinstance(value, str) and value.startswith('[')
        text = self.kind is tuple or (self.kind is str and not self.choices)
        hint = _QUOTE if text and (listed or isinstance(value, (bool, int, float))) else ''
        return SettingError(f'{self.name}: expected {self.expected}, got {kind}{hint}')


def option(
    default: Any,
    doc: str,
    *,
    kind: type | None = None,
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    live: bool = False,
    scope: str = '',
) -> Any:
    """Declare a field of a dataclass as an option; see `Option`.

    Args:
        kind: if it is not that of the default, such as float where the default is 'auto'.
    """
    metadata = {
        'kind': kind or type(default),
        'doc': doc,
        'choices': choices,
        'words': words,
        'low': low,
        'high': high,
        'live': live,
        'scope': scope,
    }
    return dataclasses.field(default=default, metadata=metadata)


def options_of(declared: Any) -> tuple[Option, ...]:
    """Return all options of a dataclass, those of its groups included, in order."""
    return _options_of(declared)


@lru_cache
def _options_of(declared: Any) -> tuple[Option, ...]:
    found: list[Option] = []
    for field in dataclasses.fields(declared):
        name = _public(field)
        if dataclasses.is_dataclass(field.default):
            members = options_of(type(field.default))
            found += [replace(one, name=f'{name}.{one.name}') for one in members]
        else:
            found.append(Option(name, field.default, **field.metadata))
    return tuple(found)


def groups_of(declared: Any) -> Mapping[str, str]:
    """Return {full name: description} of the groups of a dataclass."""
    groups: dict[str, str] = {}
    for field in dataclasses.fields(declared):
        if dataclasses.is_dataclass(field.default):
            name, group = _public(field), type(field.default)
            groups[name] = ' '.join((group.__doc__ or '').split())
            groups |= {f'{name}.{inner}': text for inner, text in groups_of(group).items()}
    return groups


@dataclass(frozen=True)
class Options:
    """Base of dataclasses of options. A field whose default is a frozen dataclass is a group.

    A group may be given as a mapping: `Settings(cluster={'eps': 0.7})`.

    Raises:
        SettingError: a name is unknown (the message names the nearest), or a value is bad.
    """

    def __new__(cls, *args: Any, **values: Any):
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise unknown(name, cls)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        options = options_of(type(self))
        values = {one.name: one.default for one in options} | self.flat()
        checked = {one.name: one.checked(values[one.name]) for one in options}
        for name, value in _nested(type(self), checked).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_mapping(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """Return the defaults with some values replaced, such as those of a parsed YAML file.

        Args:
            values: nested as in YAML, {'cluster': {'eps': 0.7}}, or {'cluster.eps': 0.7}.

        Raises:
            SettingError: see the class; a group is given as a value, or a value as a group.
        """
        defaults = {one.name: one.default for one in options_of(cls)}
        return cls(**_nested(cls, defaults | flattened(cls, values)))

    def replace(self: Declared, **changes: Any) -> Declared:
        """Return a copy with some values changed; names and errors as in `from_mapping`.

        A mapping for a group changes only the values that it names.
        """
        return self.from_mapping(self.flat() | flattened(type(self), changes))

    def flat(self) -> dict[str, Any]:
        """Return the values by full name, such as 'cluster.eps'."""
        return flattened(type(self), _members(self))


def unknown(name: str, *declared: type) -> SettingError:
    """Return the error for a name that does not exist; it names the nearest one that does."""
    known = [option.name for one in declared for option in options_of(one)]
    groups = [group for one in declared for group in groups_of(one)]
    for end, letter in enumerate(name):
        if letter == '.' and name[:end] in known:
            return SettingError(f'{name}: {name[:end]} is a value, not a group')
    if name in groups:
        members = ', '.join(one for one in known if one.startswith(f'{name}.'))
        return SettingError(f'{name}: is a group, not a value. Set one of {members}')
    if name in known:
        group, _, last = name.rpartition('.')
        return SettingError(f"{name}: write {group}={{'{last}': ...}}, or use from_mapping")
    if found := nearest(name, known):
        return SettingError(f'unknown setting {name}: did you mean {" or ".join(found)}?')
    return SettingError(f'unknown setting {name}. doc/parameters.md and doc/interface.md list all')


def _public(field: dataclasses.Field) -> str:
    """Return the name of a field. Python forbids a field `lambda`, so the field is `lambda_`."""
    return field.name.rstrip('_')


def _members(group: Any) -> dict[str, Any]:
    return {_public(field): getattr(group, field.name) for field in dataclasses.fields(group)}


def flattened(declared: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by full name, from nested ones, full names, or both.

    Raises:
        SettingError: a name is unknown or given twice, a group is given as a value, or a value as a
            group.
    """
    known, groups = {one.name for one in options_of(declared)}, groups_of(declared)
    result: dict[str, Any] = {}

    def add(prefix: str, members: Mapping[str, Any]) -> None:
        for key, value in members.items():
            name = f'{prefix}{key}'
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = _members(value)
            if isinstance(value, Mapping) and name in groups:
                add(f'{name}.', value)
            elif isinstance(value, Mapping) and name in known:
                raise SettingError(f'{name}: is a value, not a group')
            elif name not in known:
                raise unknown(name, declared)
            elif name in result:
                raise SettingError(f'{name}: is given twice')
            else:
                result[name] = value

    add('', values)
    return result


def _nested(declared: type, values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return the fields of a dataclass, from values by full name."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(declared):
        name = prefix + _public(field)
        if dataclasses.is_dataclass(field.default):
            group: Any = type(field.default)
            fields[field.name] = group(**_nested(group, values, f'{name}.'))
        else:
            fields[field.name] = values[name]
    return fields
