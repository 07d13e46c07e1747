"""The files around the code agree with each other and with the code."""

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / 'scripts').iterdir())
CMAKE = (ROOT / 'CMakeLists.txt').read_text()
MANIFEST = ET.parse(ROOT / 'package.xml').getroot()


def requirements(name):
    """Return {package: version specifier} of a requirements file."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    pairs = (re.fullmatch(r'([\w-]+)(.*)', line) for line in lines if line and line[0] != '#')
    return {pair[1]: pair[2] for pair in pairs}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# package.xml and setup.py


def test_manifest():
    assert MANIFEST.get('format') == '3'
    assert MANIFEST.findtext('name') == 'cliptrase_ros'
    assert MANIFEST.findtext('license') == 'Apache-2.0'
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()[:100]
    assert MANIFEST.findtext('export/build_type') == 'ament_cmake'
    assert MANIFEST.findtext('member_of_group') == 'rosidl_interface_packages'


def test_setup_takes_version_and_dependencies_from_the_other_files():
    pytest.importorskip('setuptools')
    done = run(sys.executable, 'setup.py', '--name', '--version', cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ['cliptrase_ros', MANIFEST.findtext('version')]


@pytest.mark.parametrize('prefix, expected', [('/nowhere:{}', '7.8.9'), ('', 'unknown')])
def test_the_version_where_colcon_has_installed_it(tmp_path, prefix, expected):
    """There are only the modules, and package.xml in the prefix. With -I and -S, Python ignores the
    packages of pip."""
    modules = tmp_path / 'modules' / 'cliptrase_ros'
    modules.mkdir(parents=True)
    shutil.copy(ROOT / 'cliptrase_ros' / 'version.py', modules)
    share = tmp_path / 'share' / 'cliptrase_ros'
    share.mkdir(parents=True)
    text = (ROOT / 'package.xml').read_text()
    own = MANIFEST.findtext('version')
    (share / 'package.xml').write_text(text.replace(f'<version>{own}<', '<version>7.8.9<'))
    ask = (
        f'import sys; sys.path.insert(0, {str(modules)!r}); import version as v; print(v.version())'
    )
    env = {**os.environ, 'AMENT_PREFIX_PATH': prefix.format(tmp_path)}
    done = run(sys.executable, '-I', '-S', '-c', ask, str(modules), env=env)
    assert (done.stdout, done.stderr) == (f'{expected}\n', '')


@pytest.mark.parametrize('folder', ['model/configs', 'evaluation/class_lists'])
def test_what_is_no_code_is_installed_too(tmp_path, folder):
    pytest.importorskip('setuptools')
    build = ('setup.py', '-q', 'build_py', '--build-lib', str(tmp_path))
    done = run(sys.executable, *build, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (ROOT / 'cliptrase_ros' / folder).iterdir()}
    assert names == {path.name for path in (tmp_path / 'cliptrase_ros' / folder).iterdir()}


def test_nothing_of_an_older_build_is_installed(tmp_path):
    """`pip install` builds in a folder that is kept, so it could install modules that were deleted
    since."""
    pytest.importorskip('setuptools')
    stale = tmp_path / 'cliptrase_ros' / 'visual.py'
    stale.parent.mkdir()
    stale.write_text('')
    build = ('setup.py', '-q', 'build_py', '--build-lib', str(tmp_path))
    done = run(sys.executable, *build, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not stale.exists() and (stale.parent / 'segmenter.py').exists()


def test_sources_are_not_taken_for_an_older_build(tmp_path):
    pytest.importorskip('setuptools')
    for name in ('setup.py', 'package.xml', 'pyproject.toml'):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    source = tmp_path / 'cliptrase_ros' / '__init__.py'
    source.parent.mkdir()
    source.write_text('# mine')
    run(sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', '.', cwd=tmp_path)
    assert source.read_text() == '# mine'


def test_installed_lists_are_found_without_a_workspace(tmp_path):
    """The package that pip (or cmake after it) installed here finds its lists."""
    env = {k: v for k, v in os.environ.items() if k not in ('AMENT_PREFIX_PATH', 'PYTHONPATH')}
    there = run(sys.executable, '-c', 'import cliptrase_ros', cwd=tmp_path, env=env)
    if there.returncode:
        pytest.skip('the package is not installed for this Python')
    ask = 'import cliptrase_ros as ct; print(*ct.word_lists())'
    done = run(sys.executable, '-c', ask, cwd=tmp_path, env=env)
    names = sorted(path.stem for path in (ROOT / 'config' / 'vocabularies').iterdir())
    assert done.stdout.split() == names, done.stderr


def test_nothing_of_an_older_installation_is_imported(tmp_path):
    """A source tree has no messages. Only these are imported from another installation."""
    old = tmp_path / 'cliptrase_ros'
    (old / 'msg').mkdir(parents=True)
    for file in ('__init__.py', 'visual.py', 'msg/__init__.py'):
        (old / file).write_text('')
    ask = """
import cliptrase_ros.msg
try:
    import cliptrase_ros.visual
except ModuleNotFoundError as error:
    print(cliptrase_ros.msg.__file__)
"""
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = run(sys.executable, '-S', '-c', ask, env=env)
    assert done.stdout == f'{old / "msg" / "__init__.py"}\n', done.stderr


def test_the_word_lists_are_installed_into_the_package(tmp_path):
    """The lists are found wherever pip puts the package, also in a user's home folder."""
    pytest.importorskip('setuptools')
    site, info = tmp_path / 'site', tmp_path / 'info'
    info.mkdir()
    build = ('setup.py', '-q', 'egg_info', '--egg-base', str(info), 'build_py', '--build-lib')
    done = run(sys.executable, *build, str(site), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    names = sorted(path.stem for path in (ROOT / 'config' / 'vocabularies').iterdir())
    inside = (site / 'cliptrase_ros' / 'words' / 'vocabularies').glob('*.yaml')
    assert sorted(path.stem for path in inside) == names
    ask = 'import cliptrase_ros as ct; print(*ct.word_lists(), len(ct.read_words("indoor")[0]))'
    env = {**os.environ, 'PYTHONPATH': str(site), 'AMENT_PREFIX_PATH': ''}
    done = run(sys.executable, '-c', ask, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    *found, count = done.stdout.split()
    assert found == names and int(count) > 40
    # They are also in a source distribution, because wheels are made from it.
    sources = (info / 'cliptrase_ros.egg-info' / 'SOURCES.txt').read_text().split()
    assert {f'config/vocabularies/{name}.yaml' for name in names} <= set(sources)


def test_cmake_finds_only_declared_packages():
    declared = {tag.text for tag in MANIFEST if tag.tag.endswith('depend')}
    found = set(re.findall(r'find_package\((\w+)', CMAKE))
    exported = set(re.findall(r'ament_export_dependencies\((\w+)', CMAKE))
    assert found | exported <= declared


def test_python_imports_only_declared_packages():
    """Every ROS package that the nodes or launch files import is in package.xml."""
    declared = {tag.text for tag in MANIFEST if tag.tag.endswith('depend')}
    ros = {'rclpy', 'launch', 'launch_ros', 'cv_bridge', 'ament_index_python'}
    for file in [*ROOT.glob('cliptrase_ros/ros/**/*.py'), *ROOT.glob('launch/*.py')]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in (name.partition('.')[0] for name in names):
                if name in ros or name.endswith(('_msgs', '_srvs', '_interfaces')):
                    assert name in declared, f'{file.name} imports {name}'


# What CMake and pip install


def test_every_message_is_built():
    assert set(re.findall(r'"(msg/\w+\.msg)"', CMAKE)) == {
        str(file.relative_to(ROOT)) for file in ROOT.glob('msg/*.msg')
    }


def test_every_field_of_a_message_has_a_comment():
    for file in ROOT.glob('msg/*.msg'):
        lines = file.read_text().splitlines()
        for before, line in pairwise(lines):
            assert not line or line[0] == '#' or before[:1] == '#', f'{file.name}: {line}'


def test_every_script_is_installed():
    (block,) = re.findall(r'PROGRAMS(.*)\n', CMAKE)
    assert block.split() == [str(script.relative_to(ROOT)) for script in SCRIPTS]


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda script: script.name)
def test_script_starts_a_module_of_ours(script):
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    # Unlike a fixed path, env finds the virtual environment that has torch.
    assert text.startswith('#!/usr/bin/env python3\n')
    (module,) = re.findall(r'^from (\S+) import main\b', text, re.MULTILINE)
    file = ROOT / (module.replace('.', '/') + '.py')
    functions = [node.name for node in ast.parse(file.read_text()).body if hasattr(node, 'name')]
    assert 'main' in functions


def test_installed_folders_exist():
    (folders,) = re.findall(r'install\(DIRECTORY ([a-z ]+) DESTINATION share', CMAKE)
    for folder in folders.split():
        assert any((ROOT / folder).iterdir())


def test_data_files_exist():
    data = re.search(r'package_data=(\{.*\})', (ROOT / 'setup.py').read_text())[1]
    for package, patterns in ast.literal_eval(data).items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), pattern


def test_no_source_folder_hides_the_messages():
    assert not (ROOT / 'cliptrase_ros' / 'msg').exists()


# Requirements


def test_ros_wheels_are_pinned_to_one_distribution():
    wheels = requirements('ros-jazzy.txt')
    for name, version in wheels.items():
        assert name == 'catkin-pkg' or (name.startswith('ros-jazzy-') and version[:2] == '==')
    assert 'lark' not in wheels  # it overwrites files of lark-parser


# The workflow of the public CI

WORKFLOW = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ros.yml').read_text())
JOBS = WORKFLOW['jobs']


def script_of(job):
    return '\n'.join(step.get('run', '') for step in JOBS[job]['steps'])


def test_workflow_builds_in_the_supported_distributions():
    job = JOBS['workspace']
    assert job['container']['image'] == 'ros:${{ matrix.distribution }}'
    readme = (ROOT / 'README.md').read_text()
    line = next(line for line in readme.splitlines() if line.startswith('**In a ROS 2 workspace**'))
    names = {'foxy', 'galactic', 'humble', 'iron', 'jazzy', 'kilted', 'lyrical', 'rolling'}
    told = names & set(re.findall(r'\w+', line.lower()))
    assert sorted(job['strategy']['matrix']['distribution']) == sorted(told)


def test_workflow_does_what_the_readme_says():
    readme = (ROOT / 'README.md').read_text()
    (block,) = (b for b in re.findall('```bash\n(.*?)```', readme, re.DOTALL) if 'rosdep' in b)
    commands = [part.strip() for line in block.splitlines() for part in line.split('&&')]
    own = [command for command in commands if not command.startswith(('cd ', 'git ', 'ros2 '))]
    assert len(own) >= 6
    for command in own:
        assert command in script_of('workspace')
    assert '.ci/run' in script_of('wheels') and (ROOT / '.ci' / 'run').is_file()


def test_workflow_installs_what_the_tests_need():
    extra = re.search(r"'test': (\[.*\])", (ROOT / 'setup.py').read_text())[1]
    for name in ast.literal_eval(extra):
        # rosdep installs pytest; see test_depend in package.xml.
        assert name in script_of('workspace') or f'python3-{name}' in {
            tag.text for tag in MANIFEST.findall('test_depend')
        }


@pytest.mark.parametrize('job', sorted(JOBS))
def test_workflow_scripts_parse(job):
    done = run('bash', '-n', '-c', script_of(job))
    assert (done.returncode, done.stderr) == (0, '')


# What `make` prints if the machine lacks something

PYTHON = """
case "$*" in
  *version*) {version} ;;
  *venv*) {venv} ;;
  *sysconfig*) echo {headers} ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs the check on a machine of stub tools. A keyword changes a tool;
    None removes it."""
    (tmp_path / 'Python.h').touch()

    def check(python=(), **changes):
        tools = {
            'uname': 'if [ "$1" = -m ]; then echo x86_64; else echo Linux; fi',
            'cc': 'true',
            'c++': 'cat >/dev/null',
            'cmake': 'echo cmake version 3.25.1',
        }
        tools.update(changes)
        if python is not None:
            answers = {'version': 'echo 3.11', 'venv': 'true', 'headers': tmp_path}
            tools['python'] = PYTHON.format(**answers | dict(python))
        folder = tmp_path / 'bin'
        folder.mkdir()
        for name in ('cat', 'sed'):
            (folder / name).symlink_to(shutil.which(name))
        for name, text in tools.items():
            if text is not None:
                (folder / name).write_text(f'#!/bin/sh\n{text}\n')
                (folder / name).chmod(0o755)
        return run(ROOT / 'tools' / 'check_machine.sh', 'python', env={'PATH': str(folder)})

    return check


def test_complete_machine(machine):
    done = machine()
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12', '3.13'])
def test_supported_python(machine, version):
    assert machine(python={'version': f'echo {version}'}).returncode == 0


@pytest.mark.parametrize('version', ['3.21.0', '3.31.6', '4.1.2'])
def test_supported_cmake(machine, version):
    assert machine(cmake=f'echo cmake version {version}').returncode == 0


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'uname': 'echo aarch64'}, 'wheels exist for Linux x86_64 only'),
        ({'python': None}, "cannot run Python as 'python': sudo apt install python3 "),
        ({'python': {'version': 'exit 127'}}, "cannot run Python as 'python': sudo apt install"),
        ({'python': {'version': 'echo 3.9'}}, "'python' is 3.9: sudo apt install python3.12 "),
        ({'python': {'version': 'echo 3.14'}}, "'python' is 3.14: sudo apt install python3.12 "),
        ({'python': {'venv': 'exit 1'}}, 'no venv module: sudo apt install python3.11-venv'),
        ({'python': {'headers': '/nowhere'}}, 'no C headers: sudo apt install python3.11-dev'),
        ({'cc': None}, "no compiler 'cc': sudo apt install build-essential"),
        ({'c++': None}, "no compiler 'c++': sudo apt install build-essential"),
        ({'c++': 'exit 1'}, 'does not compile C++17: sudo apt install build-essential'),
        ({'cmake': None}, 'there is no cmake: sudo apt install cmake'),
        ({'cmake': 'echo cmake version 3.16.3'}, 'cmake 3.21 or newer is needed, but this is 3.16'),
        ({'cmake': 'echo cmake version 2.30.0'}, 'cmake 3.21 or newer is needed, but this is 2.30'),
    ],
)
def test_incomplete_machine(machine, changes, sentence):
    done = machine(**changes)
    assert done.returncode == 1
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert sentence in done.stderr


# config/


def test_transport_profile_holds_large_images():
    profile = ET.parse(ROOT / 'config' / 'fastdds_large_images.xml').getroot()
    prefix = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
    transports = {t.findtext(f'{prefix}transport_id'): t for t in profile[0]}
    assert int(transports['large_shared_memory'].findtext(f'{prefix}segment_size')) == 64 << 20
    used = {tag.text for tag in profile.iterfind(f'.//{prefix}userTransports/*')}
    assert used == transports.keys()


QOS = {
    'Durability Policy': {'Volatile', 'Transient Local'},
    'History Policy': {'Keep Last'},
    'Reliability Policy': {'Reliable', 'Best Effort'},
}


LAYOUTS = sorted(ROOT.glob('config/*.rviz'))


@pytest.mark.parametrize('file', LAYOUTS, ids=lambda file: file.name)
def test_rviz_file(file):
    panels, manager, window = (
        yaml.safe_load(file.read_text())[key]
        for key in ('Panels', 'Visualization Manager', 'Window Geometry')
    )
    assert {panel['Class'] for panel in panels} <= {'rviz_common/Displays', 'rviz_common/Views'}
    # The frame of our own cameras, so that their clouds need no transform.
    assert manager['Global Options']['Fixed Frame'] == 'camera_optical_frame'
    names = {display['Name'] for display in manager['Displays']}
    topics = {display['Topic']['Value'] for display in manager['Displays']}
    assert len(names) == len(topics) == len(manager['Displays'])
    docks = {name for name, value in window.items() if isinstance(value, dict)}
    assert docks <= names | {'Displays', 'Views'}
    for display in manager['Displays']:
        assert display['Enabled'] is display['Value']
        for key, values in QOS.items():
            assert display['Topic'][key] in values
        if display['Topic']['Value'] == '/camera/image_raw':
            # A camera may publish best effort. A reliable subscriber would receive nothing.
            assert display['Topic']['Reliability Policy'] == 'Best Effort'


@pytest.mark.parametrize('file', LAYOUTS, ids=lambda file: file.name)
def test_rviz_looks_from_behind_the_camera(file):
    """In the view, z of the optical frame points ahead, x to the right and y down."""
    view = yaml.safe_load(file.read_text())['Visualization Manager']['Views']['Current']
    assert view['Class'] == 'rviz_default_plugins/Orbit'
    yaw, pitch = view['Yaw'], view['Pitch']
    ahead = -np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(ahead, [0, 0, 1]) / np.cos(pitch)  # an orbit keeps z upright on the screen
    np.testing.assert_allclose(right, [1, 0, 0], atol=1e-3)
    assert ahead[2] > 0.9 and np.cross(ahead, right)[1] > 0.9
    assert view['Focal Point']['Z'] - view['Distance'] * ahead[2] < 0


def test_foxglove_layout():
    """Every panel has a place and settings, in Foxglove's export format (with configById)."""
    layout = json.loads((ROOT / 'config' / 'foxglove.json').read_text())

    def placed(tree):
        if isinstance(tree, str):
            tabs = layout['configById'][tree].get('tabs', [])
            return [tree, *(panel for tab in tabs for panel in placed(tab['layout']))]
        assert tree['direction'] in {'row', 'column'} and 0 < tree['splitPercentage'] < 100
        return placed(tree['first']) + placed(tree['second'])

    panels = layout['configById']
    assert sorted(placed(layout['layout'])) == sorted(panels)
    kinds = {name.split('!')[0] for name in panels}
    topics = {'Image', '3D', 'DiagnosticSummary', 'RawMessages'}
    assert kinds == {'Tab', 'CallService', 'Parameters', *topics}
    # A tab that is not open does not subscribe, so the node does not make clouds for it.
    views = panels['Tab!views']
    assert placed(views['tabs'][views['activeTabIdx']]['layout']) == ['Image!overlay', 'Image!mask']
