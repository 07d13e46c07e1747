"""A RealSense camera and the segmentation node.

The driver is realsense2_camera of realsense-ros 4.x, which is not a dependency of this package.
ros2 launch cliptrase_ros realsense.launch.py --show-args
"""

from pathlib import Path, PurePosixPath

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
    ResetLaunchConfigurations,
)
from launch.substitutions import LaunchConfiguration

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Below it the driver publishes.
DRIVER = [LaunchConfiguration('camera_namespace'), '/', LaunchConfiguration('camera_name')]


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


ARGUMENTS = [
    argument(
        'camera',
        'true',
        'Start the driver; false: it runs already.',
        ['true', 'false', 'True', 'False'],
    ),
    argument('camera_namespace', 'camera', "The driver's, inside namespace."),
    argument('camera_name', 'camera', "The driver's."),
    argument('serial_no', "''", "The driver's: which camera, written with _ before the number."),
    argument('config_file', "''", "The driver's: YAML file with any other of its parameters."),
    argument(
        'image_topic',
        [*DRIVER, '/color/image_raw'],
        'Images of the driver; a relative name follows the namespace.',
    ),
    argument(
        'depth_topic',
        [*DRIVER, '/aligned_depth_to_color/image_raw'],
        'Depth images of the driver in the pixels of image_topic; as there.',
    ),
    argument(
        'fixed_frame',
        [LaunchConfiguration('camera_name'), '_color_optical_frame'],
        'Fixed frame of RViz, such as map.',
    ),
]


def wanted(context):
    return context.launch_configurations['camera'].lower() == 'true'


def find_driver(context):
    # Without it launch would stop after the segmentation node, and leave that running.
    if wanted(context):
        get_package_share_directory('realsense2_camera')


def start_camera(context):
    arguments = context.launch_configurations
    if not wanted(context):
        return []
    launch_files = Path(get_package_share_directory('realsense2_camera'), 'launch')
    namespace = PurePosixPath(arguments['namespace'], arguments['camera_namespace'])
    names = ('camera_name', 'serial_no', 'config_file', 'log_level')
    driver = {
        **{name: arguments[name] for name in names},
        'camera_namespace': str(namespace),
        # Depth in the pixels of the colour image, taken at the same time.
        'align_depth.enable': 'true',
        'enable_sync': 'true',
    }
    return [
        PushLaunchConfigurations(),
        ResetLaunchConfigurations(driver),  # it warns of each argument that is not its own
        IncludeLaunchDescription(str(launch_files / 'rs_launch.py')),
        PopLaunchConfigurations(),
    ]


def generate_launch_description():
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=find_driver),
            # All its other arguments are taken as well. It sets the Fast DDS profile for both.
            IncludeLaunchDescription(str(SEGMENTATION)),
            OpaqueFunction(function=start_camera),
        ]
    )
