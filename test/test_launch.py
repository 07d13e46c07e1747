"""The launch files: their arguments and the processes that they start."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from launch_stub import load

from cliptrase_ros.demo.viewpoints import MOTIONS

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / 'launch'
FILE = LAUNCH / 'segmentation.launch.py'
DEMO = LAUNCH / 'demo.launch.py'
WEBCAM = LAUNCH / 'webcam.launch.py'
REALSENSE = LAUNCH / 'realsense.launch.py'
MULTI_CAMERA = LAUNCH / 'multi_camera.launch.py'
NAV2 = LAUNCH / 'nav2.launch.py'
VOCABULARIES = ROOT / 'config' / 'vocabularies'
PARAMETERS = ROOT / 'config' / 'segmentation.yaml'
DEMO_PARAMETERS = ROOT / 'config' / 'demo.yaml'
PROFILE = ROOT / 'config' / 'fastdds_large_images.xml'
VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


@pytest.fixture
def every_argument(tmp_path):
    """Return a value for each argument that is not its default."""
    parameters, profile = tmp_path / 'mine.yaml', tmp_path / 'mine.xml'
    parameters.write_text('/**: {ros__parameters: {method: clip}}')
    profile.write_text('<profiles/>')
    return {
        'params_file': str(parameters),
        'namespace': 'robot1',
        'image_topic': '/front/rgb',
        'camera_info_topic': '/calibration',
        'depth_topic': '/front/range',
        'depth_info_topic': '/range_calibration',
        'image_transport': 'raw',
        'cameras': '',
        'vocabulary': 'kitchen',
        'use_sim_time': 'true',
        'autostart': 'False',
        'wait_for': 'local_costmap/local_costmap, /arm',
        'log_level': 'debug',
        'rviz': 'True',
        'view': 'True',
        'fixed_frame': 'map',
        'source': '2',
        'transport_profile': str(profile),
    }


@pytest.fixture
def every_demo_argument():
    return {
        'namespace': 'robot1',
        'rviz': 'true',
        'view': 'true',
        'motion': 'pan',
        'seed': '7',
        'rate_hz': '2',
        'log_level': 'debug',
    }


@pytest.fixture
def values_of(every_argument, every_demo_argument):
    """Return {launch file: {argument: value}}; the values are not the defaults if possible."""
    no_source = {**every_argument, 'source': ''}
    return {
        FILE: every_argument,
        DEMO: every_demo_argument,
        WEBCAM: {**every_argument, 'rviz': 'False'},
        REALSENSE: {
            **no_source,
            'camera': 'True',
            'camera_namespace': 'eyes',
            'camera_name': 'left',
            'serial_no': '_123',
            'config_file': '/realsense.yaml',
        },
        MULTI_CAMERA: {
            **no_source,
            'cameras': 'up, down',
            'image_topic': 'cameras/{camera}/rgb',
            'camera_info_topic': '/{camera}/calibration',
            'depth_topic': 'cameras/{camera}/range',
            'depth_info_topic': '/{camera}/range_calibration',
            'image_transport': 'compressed',
        },
        NAV2: every_argument,
    }


FILES = [FILE, DEMO, WEBCAM, REALSENSE, MULTI_CAMERA, NAV2]


def test_no_launch_file_is_forgotten():
    assert sorted(LAUNCH.iterdir()) == sorted(FILES)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_arguments(file, values_of):
    launch = load(file)
    assert launch.declared.keys() == values_of[file].keys()
    same = set()
    for name, argument in launch.declared.items():
        assert argument.description.endswith('.'), name
        if argument.default_value == values_of[file][name]:
            same.add(name)
    assert same <= {'cameras', 'source'}  # only one of them may be set


def test_defaults_start_the_node_alone():
    launch = load(FILE)
    assert PARAMETERS.is_file() and PROFILE.is_file()
    assert launch.nodes.keys() == {'segmentation'}
    assert launch.nodes['segmentation'].argv() == [
        *('--ros-args', '--log-level', 'info', '--ros-args'),
        *('-r', '__node:=segmentation', '-r', '__ns:=/'),
        *('--params-file', str(PARAMETERS)),
        *('--params-file', {'use_sim_time': False, 'autostart': True}),
        *('-r', 'image:=/camera/image_raw', '-r', 'camera_info:=/camera/camera_info'),
        *('-r', 'depth/image_rect:=/camera/depth/image_rect'),
        *('-r', 'depth/camera_info:=/camera/depth/camera_info'),
    ]
    assert launch.environment == dict.fromkeys(VARIABLES, str(PROFILE))


def test_every_argument_arrives(every_argument):
    launch = load(FILE, **every_argument)
    common = ('--ros-args', '--log-level', 'debug', '--ros-args')
    topics = [
        *('-r', 'image:=/front/rgb', '-r', 'camera_info:=/calibration'),
        *('-r', 'depth/image_rect:=/front/range', '-r', 'depth/camera_info:=/range_calibration'),
    ]
    assert {name: node.argv() for name, node in launch.nodes.items()} == {
        'segmentation': [
            *(*common, '-r', '__node:=segmentation', '-r', '__ns:=/robot1'),
            *('--params-file', every_argument['params_file']),
            *('--params-file', str(VOCABULARIES / 'kitchen.yaml')),
            '--params-file',
            {
                'use_sim_time': True,
                'autostart': False,
                'image_transport': 'raw',
                'wait_for': ['local_costmap/local_costmap', '/arm'],
            },
            *topics,
        ],
        'camera': [
            *(*common, '-r', '__node:=camera', '-r', '__ns:=/robot1'),
            *('--params-file', {'use_sim_time': True, 'source': '2'}),  # not the number 2
            *topics,
        ],
        'rviz2': [
            *('-d', str(ROOT / 'config' / 'cliptrase_depth.rviz'), '-f', 'map'),
            *(*common, '-r', '__node:=rviz2', '-r', '__ns:=/robot1'),
            *('--params-file', {'use_sim_time': True}),
            *('-r', '/camera/image_raw:=/front/rgb'),
            *('-r', '/segmentation/overlay:=segmentation/overlay'),
            *('-r', '/segmentation/color_mask:=segmentation/color_mask'),
            *('-r', '/segmentation/confidence:=segmentation/confidence'),
            *('-r', '/segmentation/points:=segmentation/points'),
            *('-r', '/segmentation/objects/markers:=segmentation/objects/markers'),
        ],
        'web_view': [
            *(*common, '-r', '__node:=web_view', '-r', '__ns:=/robot1'),
            *('--params-file', {'use_sim_time': True, 'node': 'segmentation'}),
        ],
    }
    assert launch.environment == dict.fromkeys(VARIABLES, every_argument['transport_profile'])


def shown(file, **values):
    """Return the RViz node that a launch file starts, and the layout that it opens."""
    rviz = load(file, rviz='true', **values).nodes['rviz2']
    option, layout = rviz.arguments[:2]
    assert option == '-d'
    return rviz, yaml.safe_load(Path(layout).read_text())['Visualization Manager']


@pytest.mark.parametrize(
    ('file', 'values', 'wanted', 'frame'),
    [
        (FILE, {}, False, []),
        (WEBCAM, {}, False, []),
        (MULTI_CAMERA, {}, False, []),
        (NAV2, {}, False, []),
        (FILE, {'depth_topic': '/range'}, True, []),
        (NAV2, {'depth_topic': '/range', 'fixed_frame': 'map'}, True, ['-f', 'map']),
        (DEMO, {}, True, []),
        (REALSENSE, {}, True, ['-f', 'camera_color_optical_frame']),
        (REALSENSE, {'camera_name': 'left'}, True, ['-f', 'left_color_optical_frame']),
    ],
)
def test_rviz_asks_for_clouds_where_depth_is_given(file, values, wanted, frame):
    rviz, layout = shown(file, **values)
    assert rviz.arguments[2:] == frame
    enabled = {display['Topic']['Value'] for display in layout['Displays'] if display['Enabled']}
    in_space = {'/segmentation/points', '/segmentation/objects/markers'}
    assert enabled & in_space == (in_space if wanted else set())


@pytest.mark.parametrize(
    ('file', 'values'),
    [(FILE, {}), (FILE, {'depth_topic': '/range'}), (MULTI_CAMERA, {})],
)
def test_rviz_finds_every_topic_of_its_layout(file, values):
    rviz, layout = shown(file, **values)
    topics = {display['Topic']['Value'] for display in layout['Displays']}
    assert topics <= dict(rviz.remappings).keys()


# The remappings of the demo's node and of its world.
CAMERA_TOPICS = [
    *('-r', 'image:=camera/image_raw', '-r', 'camera_info:=camera/camera_info'),
    *('-r', 'depth/image_rect:=camera/depth/image_rect'),
    *('-r', 'depth/camera_info:=camera/depth/camera_info'),
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
            *CAMERA_TOPICS,
        ],
        'demo_world': [
            *(*common, '-r', '__node:=demo_world', '-r', '__ns:=/'),
            *('--params-file', {'motion': 'drive', 'seed': 500000, 'rate_hz': 5.0}),
            *(*CAMERA_TOPICS, '-r', 'pose:=camera/pose'),
        ],
    }
    for node in launch.nodes.values():
        assert node.environment == dict.fromkeys(VARIABLES, str(PROFILE))


def test_every_demo_argument_arrives(every_demo_argument):
    nodes = load(DEMO, **every_demo_argument).nodes
    assert nodes.keys() == {'segmentation', 'demo_world', 'rviz2', 'web_view'}
    for node in nodes.values():
        assert node.namespace == 'robot1'
        assert node.ros_arguments == ['--log-level', 'debug']
    (parameters,) = nodes['demo_world'].parameters
    # ROS refuses 7.0 for the seed (an integer) and 2 for the rate (a float).
    assert str(parameters) == "{'motion': 'pan', 'seed': 7, 'rate_hz': 2.0}"
    assert ('/camera/image_raw', 'camera/image_raw') in nodes['rviz2'].remappings


def test_demo_defaults_are_those_of_the_world():
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')

    from cliptrase_ros.ros.demo.demo_world import WorldOptions

    launch, options = load(DEMO), WorldOptions()
    assert launch.declared['motion'].choices == list(MOTIONS)
    for name, value in launch.nodes['demo_world'].parameters[0].items():
        assert value == getattr(options, name), name


def test_webcam():
    nodes = load(WEBCAM, namespace='robot1').nodes
    assert nodes.keys() == {'segmentation', 'camera', 'rviz2'}
    assert nodes['camera'].parameters == [{'use_sim_time': False, 'source': '0'}]
    assert {node.namespace for node in nodes.values()} == {'robot1'}
    for name in ('segmentation', 'camera'):
        topics = dict(nodes[name].remappings)
        assert topics['image'] == 'camera/image_raw'
        assert topics['depth/image_rect'] == 'camera/depth/image_rect'


def test_realsense_starts_the_driver_and_listens_to_it():
    launch = load(REALSENSE, use_sim_time='true')
    assert launch.foreign == {
        'realsense2_camera/rs_launch.py': {
            'camera_namespace': 'camera',
            'camera_name': 'camera',
            'serial_no': "''",
            'config_file': "''",
            'log_level': 'info',
            'align_depth.enable': 'true',
            'enable_sync': 'true',
        }
    }
    assert launch.nodes.keys() == {'segmentation'}
    assert dict(launch.nodes['segmentation'].remappings) == {
        'image': 'camera/camera/color/image_raw',
        'camera_info': 'camera/camera/color/camera_info',
        'depth/image_rect': 'camera/camera/aligned_depth_to_color/image_raw',
        'depth/camera_info': 'camera/camera/aligned_depth_to_color/camera_info',
    }


@pytest.mark.parametrize(
    ('namespace', 'camera_namespace', 'driver'),
    [('robot1', 'eyes', 'robot1/eyes'), ('robot1', '/eyes', '/eyes'), ('', 'eyes', 'eyes')],
)
def test_realsense_names_meet(namespace, camera_namespace, driver):
    """The driver publishes in its namespace; our topics are relative to the node's namespace."""
    launch = load(
        REALSENSE, namespace=namespace, camera_namespace=camera_namespace, camera_name='left'
    )
    assert launch.foreign['realsense2_camera/rs_launch.py']['camera_namespace'] == driver
    topics = dict(launch.nodes['segmentation'].remappings)
    assert topics['image'] == f'{camera_namespace}/left/color/image_raw'
    depth = f'{camera_namespace}/left/aligned_depth_to_color'
    assert topics['depth/image_rect'] == f'{depth}/image_raw'
    assert topics['depth/camera_info'] == f'{depth}/camera_info'


def test_realsense_that_runs_already():
    assert load(REALSENSE, camera='false').foreign == {}


def test_realsense_with_other_depth():
    launch = load(REALSENSE, depth_topic='/tof/image')
    topics = dict(launch.nodes['segmentation'].remappings)
    assert topics['depth/image_rect'] == '/tof/image'
    assert topics['depth/camera_info'] == '/tof/camera_info'


@pytest.mark.parametrize('end', ['compressedDepth', 'compressed'])
def test_the_calibration_of_compressed_depth(end):
    launch = load(FILE, depth_topic=f'/tof/image/{end}')
    topics = dict(launch.nodes['segmentation'].remappings)
    assert topics['depth/image_rect'] == f'/tof/image/{end}'
    assert topics['depth/camera_info'] == '/tof/camera_info'


def test_multi_camera():
    launch = load(MULTI_CAMERA, cameras='front,left')
    node = launch.nodes['segmentation']
    assert node.parameters[-1]['cameras'] == ['front', 'left']
    assert dict(node.remappings) == {
        'front/image': '/front/image_raw',
        'front/camera_info': '/front/camera_info',
        'front/depth/image_rect': '/front/depth/image_rect',
        'front/depth/camera_info': '/front/depth/camera_info',
        'left/image': '/left/image_raw',
        'left/camera_info': '/left/camera_info',
        'left/depth/image_rect': '/left/depth/image_rect',
        'left/depth/camera_info': '/left/depth/camera_info',
    }


@pytest.mark.parametrize(
    ('cameras', 'overlays'),
    [
        ('front,left,right', ['front/overlay', 'left/overlay', 'right/overlay']),
        ('right, up, front, down', ['right/overlay', 'up/overlay', 'front/overlay']),
        # The third picture stays empty: a node with cameras has no topic ~/overlay.
        ('up,down', ['up/overlay', 'down/overlay', 'overlay']),
    ],
)
def test_rviz_shows_the_overlays_of_several_cameras(cameras, overlays):
    for values in ({}, {'depth_topic': '/{camera}/range'}):
        rviz, layout = shown(MULTI_CAMERA, cameras=cameras, **values)
        topics = [display['Topic']['Value'] for display in layout['Displays']]
        renamed = dict(rviz.remappings)
        assert [renamed[topic] for topic in topics] == [f'segmentation/{o}' for o in overlays]


def test_rviz_shows_all_of_a_single_named_camera():
    rviz, _ = shown(MULTI_CAMERA, cameras='front', depth_topic='/{camera}/range')
    assert rviz.arguments[1].endswith('cliptrase_depth.rviz')
    renamed = dict(rviz.remappings)
    assert renamed['/camera/image_raw'] == '/front/image_raw'
    assert renamed['/segmentation/overlay'] == 'segmentation/front/overlay'
    assert renamed['/segmentation/objects/markers'] == 'segmentation/front/objects/markers'


def test_multi_camera_with_depth():
    launch = load(MULTI_CAMERA, cameras='up,down', depth_topic='/{camera}/range')
    topics = dict(launch.nodes['segmentation'].remappings)
    for camera in ('up', 'down'):
        assert topics[f'{camera}/depth/image_rect'] == f'/{camera}/range'
        assert topics[f'{camera}/depth/camera_info'] == f'/{camera}/camera_info'


def test_multi_camera_by_default():
    launch = load(MULTI_CAMERA)
    assert launch.nodes['segmentation'].parameters[-1]['cameras'] == ['front', 'left', 'right']


@pytest.mark.parametrize(
    ('values', 'sentence'),
    [
        (
            {},
            "image_topic: '/camera/image_raw' is the same for every camera; write {camera} for the "
            'name of the camera, such as /{camera}/image_raw',
        ),
        (
            {'image_topic': '/{camera}/image_raw', 'depth_topic': '/camera/range'},
            "depth_topic: '/camera/range' is the same for every camera; write {camera} for the "
            'name of the camera, such as /{camera}/range',
        ),
    ],
)
def test_several_cameras_need_several_topics(values, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load(FILE, cameras='front,left', **values)


@pytest.mark.parametrize(
    'values',
    [
        {'cameras': 'front,left', 'image_topic': '/{camera}/image_raw'},
        {'image_transport': 'compressed'},
    ],
)
def test_a_source_is_one_raw_camera(values):
    with pytest.raises(ValueError, match='source: publishes raw images of one camera'):
        load(FILE, source='photo.png', **values)


@pytest.mark.parametrize(
    'values, better',
    [
        ({'image_topic': '/front/rgb/compressed'}, '/front/rgb'),
        ({'image_topic': 'rgb/compressed', 'image_transport': 'compressed'}, 'rgb'),
        ({'image_topic': '/{camera}/rgb/compressed', 'cameras': 'left,right'}, '/{camera}/rgb'),
    ],
)
def test_an_image_topic_that_ends_in_compressed(values, better):
    sentence = f'ends in /compressed; write image_topic:={better} image_transport:=compressed'
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load(FILE, **values)


@pytest.mark.parametrize('transport', ['raw', 'compressed', 'auto'])
def test_every_transport_can_be_chosen(transport):
    nodes = load(FILE, image_transport=transport).nodes
    assert nodes['segmentation'].parameters[-1]['image_transport'] == transport


@pytest.mark.parametrize('autostart', ['true', 'false'])
def test_nav2_manager_starts_the_node(autostart):
    nodes = load(NAV2, namespace='robot1', use_sim_time='true', autostart=autostart).nodes
    assert nodes['segmentation'].parameters[-1]['autostart'] is False
    assert nodes['segmentation'].parameters[-1]['wait_for'] == ['local_costmap/local_costmap']
    manager = nodes['lifecycle_manager_segmentation']
    assert (manager.package, manager.executable) == ('nav2_lifecycle_manager', 'lifecycle_manager')
    assert manager.namespace == nodes['segmentation'].namespace == 'robot1'
    assert manager.parameters == [
        {
            'use_sim_time': True,
            'autostart': autostart == 'true',
            'node_names': [nodes['segmentation'].name],
            'bond_timeout': 0.0,
            'service_timeout': 600.0,
        }
    ]


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_executables_exist(file, values_of):
    for node in load(file, **values_of[file]).nodes.values():
        if node.package == 'cliptrase_ros':
            script = ROOT / 'scripts' / node.executable
            assert script.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_parameters_are_declared(file, values_of):
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    from cliptrase_ros.options import options_of
    from cliptrase_ros.ros import parameters
    from cliptrase_ros.ros.camera import publisher
    from cliptrase_ros.ros.demo import demo_world
    from cliptrase_ros.ros.view import web_view

    declared = {
        'segmentation_node': parameters.parameter_names(),
        'camera_publisher': [one.name for one in options_of(publisher.CameraOptions)],
        'demo_world': [one.name for one in options_of(demo_world.WorldOptions)],
        'web_view': [one.name for one in options_of(web_view.ViewOptions)],
    }
    for node in load(file, **values_of[file]).nodes.values():
        if node.package == 'cliptrase_ros':
            (values,) = (given for given in node.parameters if isinstance(given, dict))
            assert set(values) <= {*declared[node.executable], 'use_sim_time'}


def test_nodes_to_wait_for():
    assert 'wait_for' not in load(FILE).nodes['segmentation'].parameters[-1]
    nodes = load(FILE, wait_for='local_costmap/local_costmap, /arm').nodes
    expected = ['local_costmap/local_costmap', '/arm']
    assert nodes['segmentation'].parameters[-1]['wait_for'] == expected
    assert 'wait_for' not in load(NAV2, wait_for='').nodes['segmentation'].parameters[-1]


def test_vocabulary_by_name_or_path(tmp_path):
    mine = tmp_path / 'mine.yaml'
    mine.touch()
    for name, file in (('indoor', VOCABULARIES / 'indoor.yaml'), (str(mine), mine)):
        # After the parameters file, because the last value wins.
        files = load(FILE, vocabulary=name).nodes['segmentation'].parameters[:-1]
        assert files == [str(PARAMETERS), str(file)]


def test_unknown_vocabulary_is_an_error_that_lists_the_names():
    names = ', '.join(sorted(file.stem for file in VOCABULARIES.iterdir()))
    with pytest.raises(FileNotFoundError, match=f"'kithcen' is neither a file nor one of {names}"):
        load(FILE, vocabulary='kithcen')


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
    ('image_topic', 'beside'), [('image', ''), ('/image', '/'), ('front/image', 'front/')]
)
def test_camera_info_and_depth_stand_beside_the_image(image_topic, beside):
    nodes = load(FILE, image_topic=image_topic, source='photo.png').nodes
    for name in ('segmentation', 'camera'):
        assert dict(nodes[name].remappings) == {
            'image': image_topic,
            'camera_info': f'{beside}camera_info',
            'depth/image_rect': f'{beside}depth/image_rect',
            'depth/camera_info': f'{beside}depth/camera_info',
        }


def test_camera_info_of_depth_stands_beside_it():
    node = load(FILE, depth_topic='/zed/depth/depth_registered').nodes['segmentation']
    topics = dict(node.remappings)
    assert topics['depth/image_rect'] == '/zed/depth/depth_registered'
    assert topics['depth/camera_info'] == '/zed/depth/camera_info'
    assert topics['camera_info'] == '/camera/camera_info'


# Also matches commands over several lines that end with a backslash.
COMMAND = re.compile(r'ros2 launch cliptrase_ros ([\w.]+)((?:[^#`\n]|(?<=\\)\n)*)')


@pytest.mark.parametrize('document', [ROOT / 'README.md', *sorted(ROOT.glob('doc/*.md'))])
def test_commands_in_documents(document):
    """Each launch file in a command exists and has the given arguments."""
    for name, arguments in COMMAND.findall(document.read_text()):
        declared = load(LAUNCH / name).declared
        for argument in re.findall(r'(\w+):=', arguments):
            assert argument in declared, f'{name} {arguments}'


RECORDER = """#!/usr/bin/env python3
import json, os, sys
with open(__file__ + '.json', 'w') as file:
    json.dump([sys.argv[1:], dict(os.environ)], file)
"""

# A stub of the driver's launch file that records its arguments and environment.
FOREIGN = """
import json
from launch import LaunchDescription
from launch.actions import OpaqueFunction

def start(context):
    with open(__file__ + '.json', 'w') as file:
        json.dump([context.launch_configurations, dict(context.environment)], file)

def generate_launch_description():
    return LaunchDescription([OpaqueFunction(function=start)])
"""


@pytest.fixture
def recorders(tmp_path):
    """Return a ROS prefix whose executables and launch files record how they are started."""
    prefix = tmp_path / 'prefix'
    files = {
        'lib/cliptrase_ros/segmentation_node': RECORDER,
        'lib/cliptrase_ros/camera_publisher': RECORDER,
        'lib/cliptrase_ros/demo_world': RECORDER,
        'lib/rviz2/rviz2': RECORDER,
        'lib/nav2_lifecycle_manager/lifecycle_manager': RECORDER,
        'share/realsense2_camera/launch/rs_launch.py': FOREIGN,
    }
    for name, text in files.items():
        marker = prefix / 'share/ament_index/resource_index/packages' / name.split('/')[1]
        for file in (marker, prefix / name):
            file.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (prefix / name).write_text(text)
        (prefix / name).chmod(0o755)
    with mock.patch.dict(os.environ):
        os.environ.update(AMENT_PREFIX_PATH=str(prefix), ROS_LOG_DIR=str(tmp_path / 'log'))
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        yield prefix


ROS_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription

file, *arguments = sys.argv[1:]
arguments = [argument.split(':=', 1) for argument in arguments]
service = LaunchService(noninteractive=True)
include = IncludeLaunchDescription(file, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


def run(file, values):
    """Start a launch file like `ros2 launch`; return (exit code, output)."""
    pytest.importorskip('launch_ros')
    arguments = [f'{name}:={value}' for name, value in values.items()]
    command = [sys.executable, '-c', ROS_LAUNCH, str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def recorded(file):
    return json.loads(Path(f'{file}.json').read_text())


@pytest.mark.parametrize('changed', [False, True])
@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_real_launch_agrees(recorders, values_of, file, changed):
    """ROS's own launch starts the same processes as the stubs."""
    values = values_of[file] if changed else {}
    expected = load(file, **values)
    code, output = run(file, values)
    assert code == 0, output

    started = {file.stem for file in recorders.glob('lib/*/*.json')}
    assert started == {node.executable for node in expected.nodes.values()}
    for node in expected.nodes.values():
        argv, environment = recorded(recorders / 'lib' / node.package / node.executable)
        assert [contents_of_own_file(word) for word in argv] == node.argv()
        assert environment.items() >= node.environment.items()
    for name, arguments in expected.foreign.items():
        package, launch_file = name.split('/')
        given, environment = recorded(recorders / 'share' / package / 'launch' / launch_file)
        assert given == arguments
        assert environment.items() >= expected.environment.items()


@pytest.mark.parametrize(
    ('file', 'values', 'package'),
    [
        (FILE, {'rviz': 'true'}, 'rviz2'),
        (REALSENSE, {}, 'realsense2_camera'),
        (NAV2, {}, 'nav2_lifecycle_manager'),
    ],
)
def test_real_launch_starts_nothing_without_a_package(recorders, file, values, package):
    (recorders / 'share/ament_index/resource_index/packages' / package).unlink()
    code, output = run(file, values)
    assert code == 1
    assert f"package '{package}' not found" in output
    assert 'process started' not in output


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_real_launch_lists_the_arguments(file):
    """--show-args prints each argument once, with the defaults of the outer file."""
    pytest.importorskip('launch_ros')
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    description = AnyLaunchDescriptionSource(str(file)).try_get_launch_description_without_context()
    listed = {argument.name: argument for argument in description.get_launch_arguments()}
    declared = load(file).declared
    assert listed.keys() == declared.keys()
    for name, argument in listed.items():
        # launch adds the choices to the description.
        assert argument.description.startswith(declared[name].description)


def contents_of_own_file(word):
    """Return the dict in a temporary parameters file of launch_ros; return other words as they
    are."""
    if not Path(word).name.startswith('launch_params_'):
        return word
    # launch_ros writes lists as Python tuples.
    (node,) = yaml.load(Path(word).read_text(), yaml.FullLoader).values()
    values = node['ros__parameters']
    return {name: list(v) if type(v) is tuple else v for name, v in values.items()}
