"""Start a RealSense camera and the segmentation node.

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

# The driver publishes below this name.
DRIVER = [LaunchConfiguration('camera_namespace'), '/', LaunchConfiguration('camera_name')]


def argument(name, default, description, choices=None):
    return DeclareLaunchArgument(
        name, default_value=default, description=description, choices=choices
    )


ARGUMENTS = [
    argument(
        'camera',
        'true',
        'Start the driver. false: it is already running.',
        ['true', 'false', 'True', 'False'],
    ),
    argument('camera_namespace', 'camera', "The driver's namespace, inside namespace."),
    argument('camera_name', 'camera', "The driver's camera name."),
    argument('serial_no', "''", 'Serial number of the camera, with _ before the number.'),
    argument('config_file', "''", "YAML file with the driver's other parameters."),
    argument(
        'image_topic',
        [*DRIVER, '/color/image_raw'],
        "Topic of the driver's images. A relative name follows the namespace.",
    ),
    argument(
        'depth_topic',
        [*DRIVER, '/aligned_depth_to_color/image_raw'],
        "Topic of the driver's depth images, in the pixels of the images. A relative name follows "
        'the namespace.',
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
    # Check this first: if the driver is missing, launch would stop only after it has started the
    # segmentation node, and the node would keep running.
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
        ResetLaunchConfigurations(driver),  # it warns about unknown arguments
        IncludeLaunchDescription(str(launch_files / 'rs_launch.py')),
        PopLaunchConfigurations(),
    ]


def generate_launch_description():
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=find_driver),
            # The other arguments of the included file work here too. It sets the Fast DDS profile
            # for both nodes.
            IncludeLaunchDescription(str(SEGMENTATION)),
            OpaqueFunction(function=start_camera),
        ]
    )
