"""Start the segmentation node, and on request a camera (source:=...) and RViz (rviz:=true).

ros2 launch cliptrase_ros segmentation.launch.py --show-args
"""

from pathlib import Path, PurePosixPath

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

CONFIG = Path(__file__).parents[1] / 'config'
VOCABULARIES = {file.stem: str(file) for file in (CONFIG / 'vocabularies').glob('*.yaml')}

# Jazzy and Humble read the first variable, Kilted and later the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')

# The outputs of the node that the layouts of one camera show.
SHOWN = ('overlay', 'color_mask', 'confidence', 'points', 'objects/markers')
# The names of cameras that config/cliptrase_cameras.rviz has topics for.
PLACES = ('front', 'left', 'right')


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


def flag(name, default, description):
    return argument(name, default, description, ['true', 'false', 'True', 'False'])


ARGUMENTS = [
    argument('params_file', str(CONFIG / 'segmentation.yaml'), 'Parameter file of the node.'),
    argument('namespace', '', 'Namespace of the nodes, such as robot1.'),
    argument(
        'image_topic',
        '/camera/image_raw',
        'Topic of the camera images to segment. With cameras, write {camera} for their names.',
    ),
    argument(
        'camera_info_topic',
        '',
        'Topic of the calibration of the images, written like image_topic. Empty: camera_info '
        'next to the images.',
    ),
    argument(
        'depth_topic',
        '',
        'Topic of the depth images in the view of the images (registered), written like '
        'image_topic. Empty: depth/image_rect next to the images. The node subscribes to it only '
        'while an output in space has a subscriber. A topic that ends with /compressedDepth is '
        'read as such.',
    ),
    argument(
        'depth_info_topic',
        '',
        'Topic of the calibration of the depth images, written like image_topic. Empty: '
        'camera_info next to the depth images.',
    ),
    argument(
        'image_transport',
        '',
        'raw: images from image_topic; compressed: images from image_topic/compressed; auto: what '
        'is published there. Empty: as in params_file.',
        ['', 'raw', 'compressed', 'auto'],
    ),
    argument(
        'cameras',
        '',
        'Names of several cameras, such as front,left,right. Empty: one camera, or as in '
        'params_file.',
    ),
    argument(
        'vocabulary',
        '',
        f'Words to look for: {", ".join(sorted(VOCABULARIES))}, or your own parameter file. '
        'Empty: the words in params_file.',
    ),
    flag('use_sim_time', 'false', 'Take the time from /clock.'),
    flag(
        'autostart',
        'true',
        'Configure and activate the node at start. false: a lifecycle manager does it. Overrides '
        'params_file.',
    ),
    argument(
        'wait_for',
        '',
        'Names of lifecycle nodes, such as local_costmap/local_costmap: take images only while all '
        'of them are active. Empty: as in params_file.',
    ),
    argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
    flag(
        'rviz',
        'false',
        'Also open RViz. It shows clouds and things if depth_topic is given. With several cameras '
        'it shows the overlays of the first three.',
    ),
    flag(
        'view',
        'false',
        'Also serve a page that shows the labels and changes the words, at '
        'http://127.0.0.1:8765 (needs viser, see doc/view.md).',
    ),
    argument(
        'fixed_frame',
        '',
        'Fixed frame of RViz, such as map. Empty: camera_optical_frame, as in its layouts.',
    ),
    argument(
        'source',
        '',
        'Image, folder, video file or webcam number to publish on image_topic. Empty: a camera '
        'is already running.',
    ),
    argument(
        'transport_profile',
        str(CONFIG / 'fastdds_large_images.xml'),
        'Fast DDS profile for large images. Empty: the defaults of Fast DDS. A profile that the '
        'environment already sets is kept.',
    ),
]


def start(context):
    # Use plain strings: Humble has no substitution that detects an empty string.
    arguments = context.launch_configurations
    profile = arguments['transport_profile']
    files = [arguments['params_file'], vocabulary_file(arguments['vocabulary'])]
    for file in filter(None, (*files, profile)):
        if not Path(file).is_file():  # launch and Fast DDS would ignore it
            raise FileNotFoundError(f'no such file: {file}')

    # A profile in the user's environment has priority over this argument.
    variables = [name for name in PROFILE_VARIABLES if profile and name not in context.environment]
    actions = [SetEnvironmentVariable(name, profile) for name in variables]

    cameras = listed(arguments['cameras'])
    names = ('image_topic', 'camera_info_topic', 'depth_topic', 'depth_info_topic')
    topics = input_topics(cameras, *(arguments[name] for name in names))
    clock = {'use_sim_time': is_true(arguments['use_sim_time'])}
    given = {
        'cameras': cameras,
        'image_transport': arguments['image_transport'],
        'wait_for': listed(arguments['wait_for']),
    }
    common = {
        'namespace': arguments['namespace'],
        'ros_arguments': ['--log-level', arguments['log_level']],
        'output': 'screen',
        'emulate_tty': True,
    }
    # RViz comes first: if it is not installed, launch stops here. If other nodes came before it,
    # they would keep running.
    if is_true(arguments['rviz']):
        layout, remappings = view_of(cameras, topics[0][1], bool(arguments['depth_topic']))
        frame = arguments['fixed_frame']
        actions.append(
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                arguments=['-d', str(CONFIG / layout), *(['-f', frame] if frame else [])],
                parameters=[clock],
                remappings=remappings,
                **common,
            )
        )
    if arguments['source']:
        if cameras or arguments['image_transport'] == 'compressed':
            raise ValueError(
                'source: publishes raw images of one camera; remove cameras and image_transport'
            )
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
    if is_true(arguments['view']):
        actions.append(
            Node(
                package='cliptrase_ros',
                executable='web_view',
                name='web_view',
                parameters=[{**clock, 'node': 'segmentation'}],
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


def view_of(cameras, image, depth):
    """Return RViz's layout and the remappings of its topics: relative names follow the namespace,
    the names in the layouts do not.

    Args:
        cameras: names of the cameras; none: one camera without a name.
        image: topic of the images of the first camera.
        depth: True if there are depth images.
    """
    if len(cameras) > 1:
        # With two cameras the third picture gets a topic that a node with cameras does not have.
        named = [f'segmentation/{camera}' for camera in cameras] + ['segmentation']
        pairs = zip(PLACES, named, strict=False)
        return 'cliptrase_cameras.rviz', [
            (f'/segmentation/{place}/overlay', f'{name}/overlay') for place, name in pairs
        ]
    name = '/'.join(['segmentation', *cameras])
    remappings = [(f'/segmentation/{topic}', f'{name}/{topic}') for topic in SHOWN]
    # The node computes what RViz shows, so displays in space need depth.
    layout = 'cliptrase_depth.rviz' if depth else 'cliptrase.rviz'
    return layout, [('/camera/image_raw', image), *remappings]


def vocabulary_file(name):
    """Return the parameter file for the name or path of a vocabulary."""
    if name in VOCABULARIES or not name:
        return VOCABULARIES.get(name, '')
    if not Path(name).is_file():
        raise FileNotFoundError(
            f'vocabulary: {name!r} is neither a file nor one of {", ".join(sorted(VOCABULARIES))}'
        )
    return name


def input_topics(cameras, image, camera_info, depth, depth_info):
    """Return the remappings of images, depth images and calibrations of each camera."""
    for name, topic in (('image_topic', image), ('depth_topic', depth or image)):
        if cameras and '{camera}' not in topic:
            raise ValueError(
                f'{name}: {topic!r} is the same for every camera; write {{camera}} for the name '
                f'of the camera, such as /{{camera}}/{PurePosixPath(topic).name}'
            )
    plain = image.removesuffix('/compressed')
    if plain != image:  # the node adds this end itself
        raise ValueError(
            f'image_topic: {image!r} ends in /compressed; write image_topic:={plain} '
            'image_transport:=compressed'
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
    """Return the topic `name` next to a topic: the usual place of calibrations and depth images."""
    topic = topic.removesuffix('/compressedDepth').removesuffix('/compressed')
    return str(PurePosixPath(topic).parent / name)


def listed(text):
    return list(filter(None, map(str.strip, text.split(','))))


def is_true(text):
    return text.lower() == 'true'


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
