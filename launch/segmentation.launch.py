"""The segmentation node; on request a camera for it (source:=...) and RViz (rviz:=true).

ros2 launch cliptrase_ros segmentation.launch.py --show-args
"""

from pathlib import Path, PurePosixPath

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node

CONFIG = Path(__file__).parents[1] / 'config'

# Jazzy and Humble read the first, Kilted and later the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def argument(name, default, description):
    return DeclareLaunchArgument(name, default_value=default, description=description)


def flag(name, default, description):
    choices = ['true', 'false', 'True', 'False']
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


ARGUMENTS = [
    argument('params_file', str(CONFIG / 'segmentation.yaml'), 'Parameters of the node.'),
    argument('namespace', '', 'Namespace of the nodes, such as robot1.'),
    argument('image_topic', '/camera/image_raw', 'Camera images to segment.'),
    flag('use_sim_time', 'false', 'Take the time from /clock.'),
    flag(
        'autostart',
        'true',
        'Configure and activate the node at once; false leaves that to a lifecycle manager. '
        'Overrides params_file.',
    ),
    argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
    flag('rviz', 'false', 'Also open RViz.'),
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
    profile, image_topic = arguments['transport_profile'], arguments['image_topic']
    for file in filter(None, (arguments['params_file'], profile)):
        if not Path(file).is_file():  # launch and Fast DDS would go on without it
            raise FileNotFoundError(f'no such file: {file}')

    # A file given here does not replace what the user's environment says.
    variables = [name for name in PROFILE_VARIABLES if profile and name not in context.environment]
    actions = [SetEnvironmentVariable(name, profile) for name in variables]

    clock = {'use_sim_time': is_true(arguments['use_sim_time'])}
    common = {
        'namespace': arguments['namespace'],
        'ros_arguments': ['--log-level', arguments['log_level']],
        'output': 'screen',
        'emulate_tty': True,
    }
    autostart = {'autostart': is_true(arguments['autostart'])}
    actions.append(
        Node(
            package='cliptrase_ros',
            executable='segmentation_node',
            name='segmentation',
            parameters=[arguments['params_file'], {**clock, **autostart}],
            remappings=[('image', image_topic)],
            **common,
        )
    )
    if arguments['source']:
        # By convention the calibration stands beside the images.
        camera_info = PurePosixPath(image_topic).with_name('camera_info')
        actions.append(
            Node(
                package='cliptrase_ros',
                executable='camera_publisher',
                name='camera',
                parameters=[{**clock, 'source': arguments['source']}],
                remappings=[('image', image_topic), ('camera_info', str(camera_info))],
                **common,
            )
        )
    if is_true(arguments['rviz']):
        actions.append(
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                arguments=['-d', str(CONFIG / 'cliptrase.rviz')],
                parameters=[clock],
                # Relative names follow the namespace, those of the .rviz file would not.
                remappings=[
                    ('/camera/image_raw', image_topic),
                    ('/segmentation/overlay', 'segmentation/overlay'),
                    ('/segmentation/label_mask', 'segmentation/label_mask'),
                ],
                **common,
            )
        )
    return actions


def is_true(text):
    return text.lower() == 'true'


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
