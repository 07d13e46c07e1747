"""What the package offers, what imports what, and that it needs no ROS."""

import ast
from pathlib import Path

import pytest
from interpreters import run_without

import cliptrase_ros as ct

PACKAGE = Path(ct.__file__).parent


def imports(path):
    """(own modules, external top-level packages) that a file imports."""
    own, external = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            own |= {node.module.split('.')[0]} if node.module else {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            external.add(node.module.split('.')[0])
        elif isinstance(node, ast.Import):
            external |= {alias.name.split('.')[0] for alias in node.names}
    return own, external


def modules():
    for path in sorted(PACKAGE.rglob('*.py')):
        name = str(path.relative_to(PACKAGE).with_suffix(''))
        if not name.endswith('__init__'):
            yield name, path


def test_ros_stays_in_ros_and_open_clip_in_weights():
    kinds = 'diagnostic', 'geometry', 'lifecycle', 'sensor', 'std', 'tf2', 'vision', 'visualization'
    ros = {'rclpy', 'rcl_interfaces', 'std_srvs', *(f'{kind}_msgs' for kind in kinds)}
    for name, path in modules():
        _, external = imports(path)
        assert not external & ros or name.startswith('ros/'), name
        assert 'open_clip' not in external or name == 'weights', name
        assert 'ray' not in external or name == 'archive_ray', name
        assert 'pybullet' not in external or name == 'demo/world', name
        assert 'cv_bridge' not in external or name == 'ros/bridge', name
    for name in ('sources', 'worker'):
        assert not imports(PACKAGE / 'ros' / f'{name}.py')[1] & ros


def test_the_public_names():
    assert set(ct.__all__) == {
        'METHODS',
        'Backbone',
        'CliptraseError',
        'Dense',
        'OutOfMemory',
        'PictureError',
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
    }
    assert all(hasattr(ct, name) and name in dir(ct) for name in ct.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Segmentor'"):
        _ = ct.Segmentor
    source = ast.parse((PACKAGE / '__init__.py').read_text())
    for_checkers = {
        (alias.name, node.module)
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert for_checkers == set(ct._MODULE_OF.items())
    undocumented = [n for n in ct.__all__ if n != 'METHODS' and not getattr(ct, n).__doc__]
    assert not undocumented


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
