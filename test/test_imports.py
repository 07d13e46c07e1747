"""What the package offers, what imports what, and that it needs no ROS."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cliptrase_ros as ct

PACKAGE = Path(ct.__file__).parent

# Modules that may be imported by each; external packages are listed with the modules' own.
ALLOWED = {
    'errors': set(),
    'memory': {'errors'},
    'host': set(),
    'settings': {'errors'},
    'templates': set(),
    'distractors': set(),
    'attention': set(),
    'resample': set(),
    'vocabulary': {'errors'},
    'groups': {'errors', 'vocabulary'},
    'geometry': {'errors'},
    'clouds': {'geometry'},
    'objects': {'errors', 'geometry'},
    'embeddings': {'errors', 'text'},
    'clusters': {'components', 'host', 'median', 'resample'},
    'components': {'host'},
    'median': set(),
    'pictures': {'errors'},
    'refine': {'errors', 'resample', 'settings'},
    'voting': {'clusters', 'host', 'resample'},
    'presence': {'attention', 'components', 'recipes', 'resample', 'visual'},
    'images': set(),
    'temporal': set(),
    'windows': set(),
    'accelerate': {'memory'},
    'linear': set(),
    'visual': {'attention', 'errors', 'linear'},
    'recipes': {'attention', 'visual'},
    'gclip': {'attention', 'recipes', 'visual'},
    'resclip': {'attention', 'recipes', 'refine', 'resample', 'visual'},
    'sc_clip': {'attention', 'recipes', 'visual'},
    'methods': {
        'attention',
        'errors',
        'gclip',
        'recipes',
        'resclip',
        'sc_clip',
        'settings',
        'visual',
    },
    'deferred': set(),
    'weights': {'deferred', 'errors', 'files'},
    'text': {'memory'},
    'backbone': {'errors', 'linear', 'recipes', 'settings', 'text', 'visual', 'weights'},
    'draw': {'errors', 'vocabulary'},
    'views': {'errors'},
    'encoder': {
        'accelerate',
        'backbone',
        'clusters',
        'errors',
        'memory',
        'methods',
        'pictures',
        'presence',
        'recipes',
        'refine',
        'settings',
        'windows',
    },
    'segmenter': {
        'backbone',
        'distractors',
        'embeddings',
        'encoder',
        'errors',
        'host',
        'memory',
        'pictures',
        'presence',
        'refine',
        'resample',
        'resclip',
        'settings',
        'templates',
        'vocabulary',
        'voting',
        'windows',
    },
    'bench': {'clusters', 'pictures', 'recipes', 'segmenter', 'settings', 'vocabulary'},
    'files': set(),
    'overlap': set(),
    'version': set(),
    'videos': {'errors'},
    'word_lists': {'errors'},
    'picture_files': {'draw', 'errors', 'files', 'pictures', 'segmenter', 'vocabulary'},
    'archive': {
        'bags',
        'errors',
        'files',
        'overlap',
        'picture_files',
        'pictures',
        'segmenter',
        'settings',
        'version',
        'vocabulary',
        'weights',
    },
    'archive_ray': {'archive', 'errors'},
    'word_check': {'distractors', 'errors', 'segmenter', 'templates', 'vocabulary'},
    'cli/__main__': {'main'},
    'cli/console': set(),
    'cli/arguments': {'console', 'segmenter', 'settings', 'vocabulary', 'word_lists'},
    'cli/segment': {
        'arguments',
        'console',
        'errors',
        'overlap',
        'picture_files',
        'segmenter',
        'vocabulary',
    },
    'cli/video': {
        'arguments',
        'console',
        'draw',
        'errors',
        'files',
        'overlap',
        'segmenter',
        'temporal',
        'videos',
        'vocabulary',
    },
    'cli/label': {'archive', 'archive_ray', 'arguments', 'console', 'errors', 'settings'},
    'cli/words': {'arguments', 'console', 'errors', 'settings', 'vocabulary', 'word_check'},
    'cli/bag': {'arguments', 'bags', 'console', 'recordings'},
    'cli/evaluate': {
        'arguments',
        'console',
        'datasets',
        'errors',
        'evaluation',
        'files',
        'journal',
        'layouts',
        'protocols',
        'published',
        'settings',
        'summary',
    },
    'cli/bench': {'arguments', 'bench', 'settings'},
    'cli/download': {'arguments', 'console', 'settings', 'weights'},
    'metrics': {'errors'},
    'layouts': {'distractors', 'metrics', 'vocabulary', 'word_lists'},
    'datasets': {'errors', 'layouts', 'metrics', 'pictures', 'vocabulary', 'word_lists'},
    'protocols': {'settings'},
    'published': {'settings', 'weights'},
    'journal': {'errors', 'files'},
    'sheets': {'draw', 'metrics', 'vocabulary'},
    'summary': set(),
    'evaluation': {
        'datasets',
        'errors',
        'files',
        'journal',
        'metrics',
        'overlap',
        'pictures',
        'protocols',
        'segmenter',
        'settings',
        'sheets',
        'version',
        'vocabulary',
        'weights',
    },
    'recordings/channel': set(),
    'recordings/scan': {'channel'},
    'recordings/ros1': {'channel', 'scan'},
    'recordings/mcap': {'channel', 'ros1', 'scan'},
    'recordings/sqlite': {'channel'},
    'recordings/convert': {'channel', 'errors'},
    'recordings/reader': {'channel', 'convert', 'errors', 'mcap', 'ros1', 'sqlite'},
    'recordings/messages': {'convert', 'geometry', 'images', 'segmenter', 'vocabulary'},
    'recordings/cameras': {
        'channel',
        'errors',
        'images',
        'messages',
        'pictures',
        'reader',
        'temporal',
    },
    'recordings/writer': {'channel', 'convert', 'errors', 'files', 'messages', 'reader'},
    'bags': {'draw', 'errors', 'overlap', 'recordings', 'segmenter', 'vocabulary'},
    'demo/world': {'errors'},
    'demo/renders': {'world'},
    'demo/captions': {'templates', 'world'},
    'demo/train': {'backbone', 'captions', 'errors', 'renders', 'visual', 'weights', 'world'},
    'demo/space': {'clouds', 'geometry', 'objects', 'segmenter', 'world'},
    'demo/score': {
        'SETTINGS',
        'captions',
        'methods',
        'metrics',
        'segmenter',
        'settings',
        'space',
        'world',
    },
}


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


def test_imports_go_one_way():
    engine = {name: path for name, path in modules() if not name.startswith('ros/')}
    assert set(engine) == set(ALLOWED)
    for name, path in engine.items():
        own, _ = imports(path)
        assert own <= ALLOWED[name], (name, own - ALLOWED[name])


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


def run_without(packages, program):
    """Run a program in a fresh interpreter in which the packages cannot be imported."""
    refuse = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {packages!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""
    done = subprocess.run(
        [sys.executable, '-c', refuse + program],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr


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
from cliptrase_ros.ros import camera, demo, world
assert camera.main and world.main and demo.main
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
