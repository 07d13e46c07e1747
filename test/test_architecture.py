"""ARCHITECTURE.md fits the tree: its drawing, its table of rooms, its paths."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'cliptrase_ros'
PAGE = (ROOT / 'ARCHITECTURE.md').read_text()
# Rooms whose table row need not name each module: the modules of `cli` are named like the commands.
BY_RULE = {'cli'}


def test_the_drawing_is_the_table_that_lint_checks():
    drawn = re.search(r'^```\n(.*?)^```', PAGE, re.MULTILINE | re.DOTALL)[1]
    rows = [re.split(' {2,}', line.strip())[0].replace('.py', '') for line in drawn.splitlines()]
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    layers = settings['tool']['importlinter']['contracts'][0]['layers']
    assert rows == layers


def rooms():
    """Return {room: its row of the table}."""
    return dict(re.findall(r'^\| `([\w/]+)/` \| (.+) \|$', PAGE, re.MULTILINE))


def test_every_room_has_a_row():
    folders = {str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.glob('*/**/*.py')}
    assert folders == rooms().keys()


@pytest.mark.parametrize('room', sorted(rooms().keys() - BY_RULE))
def test_every_module_is_named(room):
    named = set(re.findall(r'`(\w+)/?`', rooms()[room]))
    modules = {path.stem for path in (PACKAGE / room).glob('*.py')} - {'__init__', '__main__'}
    inner = {path.parent.name for path in (PACKAGE / room).glob('*/__init__.py')}
    missing = (modules | inner) - named
    assert not missing


def test_every_path_leads_somewhere():
    paths = re.findall(r'`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|txt|yaml)|(?:[\w-]+/)+)`', PAGE)
    assert len(paths) > 30
    homes = ROOT, PACKAGE, PACKAGE / 'ros'
    assert not [path for path in paths if not any((home / path).exists() for home in homes)]
