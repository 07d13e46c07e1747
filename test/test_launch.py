"""The launch files: their arguments, and the processes that they start with them."""

import json
import os
import stat
from pathlib import Path
from unittest import mock

import pytest
import yaml
from launch_stub import load

from cliptrase_ros.demo.world import MOTIONS

ROOT = Path(__file__).parents[1]
FILE = ROOT / 'launch' / 'segmentation.launch.py'
DEMO = ROOT / 'launch' / 'demo.launch.py'
PARAMETERS = ROOT / 'config' / 'segmentation.yaml'
DEMO_PARAMETERS = ROOT / 'config' / 'demo.yaml'
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


@pytest.fixture
def every_argument(tmp_path):
    """A value for each argument, none of them the default."""
    parameters, profile = tmp_path / 'mine.yaml', tmp_path / 'mine.xml'
    parameters.write_text('/**: {ros__parameters: {method: clip}}')
    profile.write_text('<profiles/>')
    return {
        'params_file': str(parameters),
        'namespace': 'robot1',
        'image_topic': '/front/rgb',
        'use_sim_time': 'true',
        'autostart': 'False',
        'log_level': 'debug',
        'rviz': 'True',
        'source': '0',
        'transport_profile': str(profile),
    }


@pytest.fixture
def every_demo_argument():
    return {
        'namespace': 'robot1',
        'rviz': 'true',
        'motion': 'pan',
        'seed': '7',
        'rate_hz': '2',
        'log_level': 'debug',
    }


@pytest.fixture
def values_of(every_argument, every_demo_argument):
    return {FILE: every_argument, DEMO: every_demo_argument}


@pytest.mark.parametrize('file', [FILE, DEMO])
def test_arguments(file, values_of):
    launch = load(file)
    assert launch.declared.keys() == values_of[file].keys()
    for name, argument in launch.declared.items():
        assert argument.description.endswith('.'), name
        assert argument.default_value != values_of[file][name]


def test_defaults_start_the_node_alone():
    launch = load(FILE)
    assert PARAMETERS.is_file() and PROFILE.is_file()
    assert launch.nodes.keys() == {'segmentation'}
    assert launch.nodes['segmentation'].argv() == [
        *('--ros-args', '--log-level', 'info', '--ros-args'),
        *('-r', '__node:=segmentation', '-r', '__ns:=/'),
        *('--params-file', str(PARAMETERS)),
        *('--params-file', {'use_sim_time': False, 'autostart': True}),
        *('-r', 'image:=/camera/image_raw'),
    ]
    assert launch.environment == dict.fromkeys(VARIABLES, str(PROFILE))


def test_every_argument_arrives(every_argument):
    launch = load(FILE, **every_argument)
    common = ('--ros-args', '--log-level', 'debug', '--ros-args')
    assert {name: node.argv() for name, node in launch.nodes.items()} == {
        'segmentation': [
            *(*common, '-r', '__node:=segmentation', '-r', '__ns:=/robot1'),
            *('--params-file', every_argument['params_file']),
            *('--params-file', {'use_sim_time': True, 'autostart': False}),
            *('-r', 'image:=/front/rgb'),
        ],
        'camera': [
            *(*common, '-r', '__node:=camera', '-r', '__ns:=/robot1'),
            *('--params-file', {'use_sim_time': True, 'source': '0'}),  # not the number 0
            *('-r', 'image:=/front/rgb', '-r', 'camera_info:=/front/camera_info'),
        ],
        'rviz2': [
            *('-d', str(ROOT / 'config' / 'cliptrase.rviz')),
            *(*common, '-r', '__node:=rviz2', '-r', '__ns:=/robot1'),
            *('--params-file', {'use_sim_time': True}),
            *('-r', '/camera/image_raw:=/front/rgb'),
            *('-r', '/segmentation/overlay:=segmentation/overlay'),
            *('-r', '/segmentation/label_mask:=segmentation/label_mask'),
        ],
    }
    assert launch.environment == dict.fromkeys(VARIABLES, every_argument['transport_profile'])


CAMERA_TOPICS = [
    *('-r', 'image:=camera/image_raw', '-r', 'camera_info:=camera/camera_info'),
    *('-r', 'depth/image_rect:=camera/depth/image_rect'),
    *('-r', 'depth/camera_info:=camera/depth/camera_info'),
    *('-r', 'pose:=camera/pose'),
]


def test_demo_starts_the_world_and_the_node():
    launch = load(DEMO)
    assert DEMO_PARAMETERS.is_file()
    common = ('--ros-args', '--log-level', 'info', '--ros-args')
    assert {name: node.argv() for name, node in launch.nodes.items()} == {
        'segmentation': [
            *(*common, '-r', '__node:=segmentation', '-r', '__ns:=/'),
            *('--params-file', str(DEMO_PARAMETERS)),
            *('--params-file', {'use_sim_time': False, 'autostart': True}),
            *('-r', 'image:=camera/image_raw'),
        ],
        'demo_world': [
            *(*common, '-r', '__node:=demo_world', '-r', '__ns:=/'),
            *('--params-file', {'motion': 'drive', 'seed': 500000, 'rate_hz': 5.0}),
            *CAMERA_TOPICS,
        ],
    }
    for node in launch.nodes.values():
        assert node.environment == dict.fromkeys(VARIABLES, str(PROFILE))


def test_every_demo_argument_arrives(every_demo_argument):
    nodes = load(DEMO, **every_demo_argument).nodes
    assert nodes.keys() == {'segmentation', 'demo_world', 'rviz2'}
    for node in nodes.values():
        assert node.namespace == 'robot1'
        assert node.ros_arguments == ['--log-level', 'debug']
    (parameters,) = nodes['demo_world'].parameters
    # ROS takes neither 7.0 for the seed nor 2 for the rate.
    assert str(parameters) == "{'motion': 'pan', 'seed': 7, 'rate_hz': 2.0}"
    assert ('/camera/image_raw', 'camera/image_raw') in nodes['rviz2'].remappings


def test_demo_defaults_are_those_of_the_world():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    from cliptrase_ros.ros.world import WorldOptions

    launch, options = load(DEMO), WorldOptions()
    assert launch.declared['motion'].choices == list(MOTIONS)
    for name, value in launch.nodes['demo_world'].parameters[0].items():
        assert value == getattr(options, name), name


@pytest.mark.parametrize('file', [FILE, DEMO])
def test_executables_exist(file, values_of):
    for node in load(file, **values_of[file]).nodes.values():
        if node.package == 'cliptrase_ros':
            script = ROOT / 'scripts' / node.executable
            assert script.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize('variable', VARIABLES)
def test_profile_of_the_user_is_kept(variable):
    (other,) = set(VARIABLES) - {variable}
    launch = load(FILE, environment={variable: '/my.xml'})
    assert launch.environment == {variable: '/my.xml', other: str(PROFILE)}


def test_no_profile():
    assert load(FILE, transport_profile='').environment == {}


@pytest.mark.parametrize('name', ['params_file', 'transport_profile'])
def test_missing_file_is_an_error(name):
    with pytest.raises(FileNotFoundError, match=r'no such file: /nowhere\.xml'):
        load(FILE, **{name: '/nowhere.xml'})


@pytest.mark.parametrize(
    ('image_topic', 'camera_info'),
    [('image', 'camera_info'), ('/image', '/camera_info'), ('front/image', 'front/camera_info')],
)
def test_camera_info_stands_beside_the_image(image_topic, camera_info):
    camera = load(FILE, image_topic=image_topic, source='photo.png').nodes['camera']
    assert dict(camera.remappings) == {'image': image_topic, 'camera_info': camera_info}


RECORDER = """#!/usr/bin/env python3
import json, os, sys
with open(__file__ + '.json', 'w') as file:
    json.dump([sys.argv[1:], dict(os.environ)], file)
"""


@pytest.fixture
def recorders(tmp_path):
    """A ROS prefix whose executables write down what they are started with."""
    prefix = tmp_path / 'prefix'
    for package, name in (
        ('cliptrase_ros', 'segmentation_node'),
        ('cliptrase_ros', 'camera_publisher'),
        ('cliptrase_ros', 'demo_world'),
        ('rviz2', 'rviz2'),
    ):
        marker = prefix / 'share/ament_index/resource_index/packages' / package
        script = prefix / 'lib' / package / name
        for file in (marker, script):
            file.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        script.write_text(RECORDER)
        script.chmod(0o755)
    # The launch file changes the environment of this process; mock puts it back.
    with mock.patch.dict(os.environ):
        os.environ.update(AMENT_PREFIX_PATH=str(prefix), ROS_LOG_DIR=str(tmp_path / 'log'))
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        yield prefix / 'lib'


@pytest.mark.parametrize('changed', [False, True])
@pytest.mark.parametrize('file', [FILE, DEMO])
def test_real_launch_agrees(recorders, values_of, file, changed):
    """ROS's own launch starts the processes that the stand-ins announce."""
    pytest.importorskip('launch_ros')
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription

    values = values_of[file] if changed else {}
    expected = load(file, **values)
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription([IncludeLaunchDescription(str(file), launch_arguments=values.items())])
    )
    assert service.run() == 0

    started = {file.stem: json.loads(file.read_text()) for file in recorders.glob('*/*.json')}
    assert started.keys() == {node.executable for node in expected.nodes.values()}
    for node in expected.nodes.values():
        argv, environment = started[node.executable]
        assert [contents_of_own_file(word) for word in argv] == node.argv()
        assert environment.items() >= node.environment.items()


def contents_of_own_file(word):
    """launch_ros hands a dict of parameters over in a temporary file."""
    if not Path(word).name.startswith('launch_params_'):
        return word
    (node,) = yaml.safe_load(Path(word).read_text()).values()
    return node['ros__parameters']
