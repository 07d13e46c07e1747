import copy
import sys
from importlib import import_module

import pytest

from cliptrase_ros.runtime import deferred


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Create an importable package with a module in a subpackage."""
    inner = tmp_path / 'slow_to_import' / 'inner'
    inner.mkdir(parents=True)
    (inner.parent / '__init__.py').write_text('VERSION = "7"\n')
    (inner / '__init__.py').write_text('')
    (inner / 'things.py').write_text(
        'class Thing:\n    size = 3\n\n    def __init__(self, name):\n        self.name = name\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield 'slow_to_import'
    for name in [name for name in sys.modules if name.startswith('slow_to_import')]:
        del sys.modules[name]


def there():
    return [name for name in sys.modules if name.startswith('slow_to_import')]


def stand_in(package):
    """Return the result of `from slow_to_import.inner.things import Thing` within the block."""
    with deferred.imports_of(package):
        thing = import_module(f'{package}.inner.things').Thing
    assert not there()
    return thing


def real():
    return sys.modules['slow_to_import.inner.things'].Thing


def test_nothing_is_imported_until_it_is_used(package):
    thing = stand_in(package)
    assert not there()
    made = thing('mug')
    assert type(made) is real() and made.name == 'mug'


def test_names_have_attributes(package):
    assert stand_in(package).size == 3


def test_names_can_be_subclassed(package):
    class Mug(stand_in(package)):
        pass

    assert issubclass(Mug, real()) and Mug('mug').name == 'mug'


def test_names_can_be_asked_what_belongs_to_them(package):
    thing = stand_in(package)
    assert isinstance(thing('mug'), thing) and not isinstance('mug', thing)
    assert issubclass(real(), thing) and not issubclass(str, thing)


def test_names_can_be_copied_and_looked_at(package):
    thing = stand_in(package)
    assert not hasattr(thing, '__wrapped__') and not there()
    assert type(copy.copy(thing)('mug')) is real()


def test_a_name_that_is_not_there_is_an_error_where_it_is_used(package):
    with deferred.imports_of(package):
        nothing = import_module(package).nothing
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        nothing()


def test_what_is_used_in_the_block_is_real_from_then_on(package):
    with deferred.imports_of(package):
        module = import_module(package)
        below = import_module(f'{package}.inner')
        assert module.inner is below and not hasattr(module, '__file__')
        assert import_module(f'{package}.inner.things').Thing('mug').name == 'mug'
        assert import_module(package).VERSION == '7'
    assert sys.modules[package].__file__


def test_the_package_is_real_after_the_block(package):
    stand_in(package)
    assert import_module(package).VERSION == '7'
    assert not hasattr(import_module(package), 'inner')


def test_a_module_below_a_package_that_is_there(package):
    parent = import_module(package)
    with deferred.imports_of(f'{package}.inner'):
        thing = import_module(f'{package}.inner.things').Thing
        assert parent.VERSION == '7' and parent.inner is sys.modules[f'{package}.inner']
    assert not hasattr(parent, 'inner')
    assert thing('mug').name == 'mug' and parent.inner.__file__


def test_what_is_imported_already_is_left_alone(package):
    module = import_module(f'{package}.inner.things')
    with deferred.imports_of(package):
        assert import_module(f'{package}.inner.things') is module


def test_what_is_not_installed_cannot_be_imported():
    with deferred.imports_of('nothing_of_that_name'), pytest.raises(ModuleNotFoundError):
        import_module('nothing_of_that_name')


def test_other_imports_are_as_ever(package):
    with deferred.imports_of('slow'), deferred.imports_of('slow_to'):
        assert import_module(package).VERSION == '7'
    assert not [finder for finder in sys.meta_path if isinstance(finder, deferred._Finder)]
