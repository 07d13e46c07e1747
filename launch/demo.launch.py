"""Start a simulated camera (demo_world) and the segmentation node with its small model.

ros2 launch cliptrase_ros demo.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch_ros.actions import Node

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')
PARAMETERS = Path(__file__).parents[1] / 'config' / 'demo.yaml'


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


ARGUMENTS = [
    argument('namespace', '', 'Namespace of the nodes and of their topics, such as robot1.'),
    argument(
        'rviz',
        'false',
        'Also open RViz, with clouds and things.',
        ['true', 'false', 'True', 'False'],
    ),
    argument(
        'view',
        'false',
        'Also serve a page with the picture and the cloud, at http://127.0.0.1:8765 (needs viser).',
        ['true', 'false', 'True', 'False'],
    ),
    argument(
        'motion',
        'drive',
        'Motion of the camera. drive: past things on an arc; pan: turning on the spot.',
        ['drive', 'pan'],
    ),
    argument('seed', '500000', 'Seed of the scenes.'),
    argument('rate_hz', '5.0', 'Images per second; fewer if the CPU is slow.'),
    argument('log_level', 'info', 'debug, info, warn, error or fatal.'),
]


def start(context):
    # The arguments are plain strings, so the numbers below are converted to their types.
    arguments = context.launch_configurations
    shared = {name: arguments[name] for name in ('namespace', 'rviz', 'view', 'log_level')}
    segmentation = IncludeLaunchDescription(
        str(SEGMENTATION),
        launch_arguments={
            **shared,
            'params_file': str(PARAMETERS),
            'image_topic': 'camera/image_raw',
            'depth_topic': 'camera/depth/image_rect',
        }.items(),
    )
    world = Node(
        package='cliptrase_ros',
        executable='demo_world',
        name='demo_world',
        namespace=arguments['namespace'],
        parameters=[
            {
                'motion': arguments['motion'],
                'seed': int(arguments['seed']),
                'rate_hz': float(arguments['rate_hz']),
            }
        ],
        # Relative names follow the namespace. The names of ground_truth/ are not changed.
        remappings=[
            ('image', 'camera/image_raw'),
            ('camera_info', 'camera/camera_info'),
            ('depth/image_rect', 'camera/depth/image_rect'),
            ('depth/camera_info', 'camera/depth/camera_info'),
            ('pose', 'camera/pose'),
        ],
        ros_arguments=['--log-level', arguments['log_level']],
        output='screen',
        emulate_tty=True,
    )
    # The order matters: the first action sets the Fast DDS profile for both.
    return [segmentation, world]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
