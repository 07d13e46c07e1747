"""Start a webcam, the segmentation node and RViz.

ros2 launch cliptrase_ros webcam.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Arguments with other defaults than in the included file. Its other arguments work here too.
ARGUMENTS = [
    DeclareLaunchArgument(
        'source',
        default_value='0',
        description='Webcam number (2 is /dev/video2), or a picture, a folder or a video file.',
    ),
    DeclareLaunchArgument(
        'image_topic',
        default_value='camera/image_raw',
        description='Topic of the published images. A relative name follows the namespace.',
    ),
    DeclareLaunchArgument('rviz', default_value='true', description='Also open RViz.'),
]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(str(SEGMENTATION))])
