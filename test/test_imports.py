"""The public names of the package, and imports without ROS or torch.

A table in pyproject.toml says which modules may import which; `make lint` checks it.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest
from interpreters import run_without

import cliptrase_ros as ct

PACKAGE = Path(ct.__file__).parent


def modules():
    """Return {path inside the package: syntax tree}."""
    return {
        path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in PACKAGE.rglob('*.py')
    }


def test_one_name_one_thing():
    trees = modules()
    stems = Counter(path.stem for path in trees if not path.stem.startswith('__'))
    classes = Counter(
        node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in (stems + classes).items() if count > 1}


def test_rooms_are_empty_inside_the_door():
    """The __init__.py of a room imports nothing, so each module loads only what it needs."""
    for path, tree in modules().items():
        if path.name == '__init__.py' and path.parent.name not in ('', 'cli'):
            assert not [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))], (
                path
            )


def test_the_public_names():
    for name in ct.__all__:
        value = getattr(ct, name)
        assert name in dir(ct)
        assert name in ('METHODS', 'TEMPLATES') or value.__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'Segmentor'"):
        _ = ct.Segmentor


def test_checkers_see_the_public_names():
    seen = {}
    for node in ast.walk(modules()[Path('__init__.py')]):
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                home = f'{node.module}.{alias.name}' if node.module else alias.name
                seen[alias.name] = home
    assert {name: home for name, home in seen.items() if home != f'{ct._HOME_OF[name]}.{name}'} == {
        name: home for name, home in ct._HOME_OF.items() if home.rpartition('.')[2] == name
    }
    assert seen.keys() == set(ct.__all__)


def test_help_and_the_check_of_words_do_not_wait_for_torch():
    run_without(
        ['torch', 'open_clip'],
        """
from cliptrase_ros import cli
for name in cli.COMMANDS:
    try:
        cli.main([name, '--help'])
    except SystemExit as ended:
        assert not ended.code
    else:
        raise AssertionError(name)
assert cli.main(['words', '--words', 'floor', '--check-only']) == 0
""",
    )


def test_cameras_and_the_demo_around_the_node_need_no_torch():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    run_without(
        ['torch', 'open_clip'],
        """
from cliptrase_ros.ros.camera import publisher
from cliptrase_ros.ros.demo import demo_world, runner
assert publisher.main and demo_world.main and runner.main
""",
    )


def test_the_library_needs_no_ros_and_touches_no_logging():
    run_without(
        ['rclpy', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs', 'rosidl_parser'],
        """
import logging
handlers = list(logging.root.handlers)
import cliptrase_ros as ct, cliptrase_ros.cli
ct.load, ct.overlay
assert logging.root.handlers == handlers
""",
    )


def test_the_messages_need_no_torch():
    pytest.importorskip('cliptrase_ros.msg', reason='the messages are not built')
    run_without(
        ['torch', 'open_clip', 'cv2', 'PIL'],
        """
from cliptrase_ros.msg import Vocabulary, VocabularyClass
import cliptrase_ros
assert 'Segmenter' in dir(cliptrase_ros)
""",
    )
