"""The segmentation node; on request a camera for it (source:=...) and RViz (rviz:=true).

ros2 launch cliptrase_ros segmentation.launch.py --show-args
"""

from pathlib import Path, PurePosixPath

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

CONFIG = Path(__file__).parents[1] / 'config'
VOCABULARIES = {file.stem: str(file) for file in (CONFIG / 'vocabularies').glob('*.yaml')}

# Jazzy and Humble read the first, Kilted and later the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

# Of the node's outputs, those that the layouts for RViz know.
SHOWN = ('overlay', 'color_mask', 'confidence', 'label_mask', 'points', 'objects/markers')


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


def flag(name, default, description):
    return argument(name, default, description, ['true', 'false', 'True', 'False'])


ARGUMENTS = [
    argument('params_file', str(CONFIG / 'segmentation.yaml'), 'Parameters of the node.'),
    argument('namespace', '', 'Namespace of the nodes, such as robot1.'),
    argument(
        'image_topic',
        '/camera/image_raw',
        'Camera images to segment. With cameras, {camera} stands for the name of each.',
    ),
    argument(
        'camera_info_topic',
        '',
        'Calibration of the images, written as image_topic is; empty: camera_info beside them.',
    ),
    argument(
        'depth_topic',
        '',
        'Depth images in the view of the images (registered), written as image_topic is; empty: '
        'depth/image_rect beside the images. Subscribed to only while somebody listens to an '
        'output in space.',
    ),
    argument(
        'depth_info_topic',
        '',
        'Calibration of the depth images, written likewise; empty: camera_info beside them.',
    ),
    argument(
        'image_transport',
        '',
        'raw images, or compressed ones from image_topic/compressed; empty: as in params_file.',
        ['', 'raw', 'compressed'],
    ),
    argument(
        'cameras',
        '',
        'Names of several cameras, such as front,left,right; empty: one, or as in params_file.',
    ),
    argument(
        'vocabulary',
        '',
        f'Words to look for: {", ".join(sorted(VOCABULARIES))}, or a parameter file of your own; '
        'empty: those of params_file.',
    ),
    flag('use_sim_time', 'false', 'Take the time from /clock.'),
    flag(
        'autostart',
        'true',
        'Configure and activate the node at once; false leaves that to a lifecycle manager. '
        'Overrides params_file.',
    ),
    argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
    flag(
        'rviz',
        'false',
        'Also open RViz, with clouds and things where depth_topic is given; of several cameras it '
        'shows the first.',
    ),
    argument(
        'fixed_frame',
        '',
        'Fixed frame of RViz, such as map; empty: camera_optical_frame, as in its layouts.',
    ),
    argument(
        'source',
        '',
        'Image, folder, video file or webcam number to publish on image_topic; empty: a camera '
        'is there already.',
    ),
    argument(
        'transport_profile',
        str(CONFIG / 'fastdds_large_images.xml'),
        'Fast DDS profile, for large images; empty: the defaults of Fast DDS. A profile that '
        'the environment names already is kept.',
    ),
]


def start(context):
    # Plain strings from here on: Humble has no substitution that tells an empty one.
    arguments = context.launch_configurations
    profile = arguments['transport_profile']
    files = [arguments['params_file'], vocabulary_file(arguments['vocabulary'])]
    for file in filter(None, (*files, profile)):
        if not Path(file).is_file():  # launch and Fast DDS would go on without it
            raise FileNotFoundError(f'no such file: {file}')

    # A file given here does not replace what the user's environment says.
    variables = [name for name in PROFILE_VARIABLES if profile and name not in context.environment]
    actions = [SetEnvironmentVariable(name, profile) for name in variables]

    cameras = list(filter(None, map(str.strip, arguments['cameras'].split(','))))
    names = ('image_topic', 'camera_info_topic', 'depth_topic', 'depth_info_topic')
    topics = input_topics(cameras, *(arguments[name] for name in names))
    clock = {'use_sim_time': is_true(arguments['use_sim_time'])}
    given = {'cameras': cameras, 'image_transport': arguments['image_transport']}
    common = {
        'namespace': arguments['namespace'],
        'ros_arguments': ['--log-level', arguments['log_level']],
        'output': 'screen',
        'emulate_tty': True,
    }
    # First: if it is not installed, launch stops here, and would leave others running.
    if is_true(arguments['rviz']):
        first = f'segmentation/{cameras[0]}' if cameras else 'segmentation'
        # A display that is on has the node make what it shows, so not without depth.
        layout = 'cliptrase_depth.rviz' if arguments['depth_topic'] else 'cliptrase.rviz'
        frame = arguments['fixed_frame']
        actions.append(
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                arguments=['-d', str(CONFIG / layout), *(['-f', frame] if frame else [])],
                parameters=[clock],
                # Relative names follow the namespace, those of the .rviz files would not.
                remappings=[
                    ('/camera/image_raw', topics[0][1]),
                    *((f'/segmentation/{name}', f'{first}/{name}') for name in SHOWN),
                ],
                **common,
            )
        )
    if arguments['source']:
        if cameras or arguments['image_transport'] == 'compressed':
            raise ValueError('source: publishes raw images of one camera')
        actions.append(
            Node(
                package='cliptrase_ros',
                executable='camera_publisher',
                name='camera',
                parameters=[{**clock, 'source': arguments['source']}],
                remappings=topics,
                **common,
            )
        )
    actions.append(
        Node(
            package='cliptrase_ros',
            executable='segmentation_node',
            name='segmentation',
            parameters=[
                *filter(None, files),
                {
                    **clock,
                    'autostart': is_true(arguments['autostart']),
                    **{name: value for name, value in given.items() if value},
                },
            ],
            remappings=topics,
            **common,
        )
    )
    return actions


def vocabulary_file(name):
    """The parameter file that a vocabulary's name or path stands for."""
    if name in VOCABULARIES or not name:
        return VOCABULARIES.get(name, '')
    if not Path(name).is_file():
        raise FileNotFoundError(
            f'vocabulary: {name!r} is neither a file nor one of {", ".join(sorted(VOCABULARIES))}'
        )
    return name


def input_topics(cameras, image, camera_info, depth, depth_info):
    """Remappings of the images, the depth images and the calibrations of each camera."""
    for name, topic in (('image_topic', image), ('depth_topic', depth or image)):
        if cameras and '{camera}' not in topic:
            raise ValueError(
                f'{name}: {topic!r} is the same for every camera; write {{camera}} in the place '
                f'of their names, such as /{{camera}}/{PurePosixPath(topic).name}'
            )
    depth = depth or beside(image, 'depth/image_rect')
    topics = {
        'image': image,
        'camera_info': camera_info or beside(image, 'camera_info'),
        'depth/image_rect': depth,
        'depth/camera_info': depth_info or beside(depth, 'camera_info'),
    }
    if not cameras:
        return list(topics.items())
    return [
        (f'{camera}/{name}', topic.replace('{camera}', camera))
        for camera in cameras
        for name, topic in topics.items()
    ]


def beside(topic, name):
    """By convention a calibration stands beside its images, and depth below their camera."""
    return str(PurePosixPath(topic).parent / name)


def is_true(text):
    return text.lower() == 'true'


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
