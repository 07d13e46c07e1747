"""Start the segmentation node with a lifecycle manager of Nav2.

ros2 launch cliptrase_ros nav2.launch.py --show-args
"""

from pathlib import Path

from ament_index_python.packages import get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch_ros.actions import Node

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Here this argument is for the manager, as in the launch files of Nav2.
AUTOSTART = DeclareLaunchArgument(
    'autostart',
    default_value='true',
    description='The lifecycle manager configures and activates the node at start.',
    choices=['true', 'false', 'True', 'False'],
)
# So no cloud comes while a costmap starts.
WAIT_FOR = DeclareLaunchArgument(
    'wait_for',
    default_value='local_costmap/local_costmap',
    description='Names of lifecycle nodes: take images only while all of them are active. Add '
    'global_costmap/global_costmap if that costmap reads the outputs too. Empty: as in '
    'params_file.',
)


def prepare(context):
    # Check this first: if the package is missing, launch would stop only after it has started the
    # segmentation node, and the node would keep running.
    get_package_prefix('nav2_lifecycle_manager')
    arguments = context.launch_configurations
    arguments['autostart_of_manager'] = arguments['autostart']


def start_manager(context):
    arguments = context.launch_configurations
    # The node has its own manager: in a shared one, loading the model would delay other nodes.
    manager = Node(
        package='nav2_lifecycle_manager',
        executable='lifecycle_manager',
        name='lifecycle_manager_segmentation',
        namespace=arguments['namespace'],
        parameters=[
            {
                'use_sim_time': is_true(arguments['use_sim_time']),
                'autostart': is_true(arguments['autostart_of_manager']),
                'node_names': ['segmentation'],
                'bond_timeout': 0.0,  # the node has no bond
                'service_timeout': 600.0,  # Kilted's timeout is 5 s; loading takes longer
            }
        ],
        ros_arguments=['--log-level', arguments['log_level']],
        output='screen',
        emulate_tty=True,
    )
    return [manager]


def is_true(text):
    return text.lower() == 'true'


def generate_launch_description():
    return LaunchDescription(
        [
            AUTOSTART,
            WAIT_FOR,
            OpaqueFunction(function=prepare),
            # The other arguments of the included file work here too.
            IncludeLaunchDescription(
                str(SEGMENTATION), launch_arguments={'autostart': 'false'}.items()
            ),
            OpaqueFunction(function=start_manager),
        ]
    )
