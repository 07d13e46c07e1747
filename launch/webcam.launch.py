"""A webcam, the segmentation node and RViz.

ros2 launch cliptrase_ros webcam.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Other defaults than in the file included, which takes all its other arguments as well.
ARGUMENTS = [
    DeclareLaunchArgument(
        'source',
        default_value='0',
        description='Webcam number (2 is /dev/video2); also a picture, a folder, a video file.',
    ),
    DeclareLaunchArgument(
        'image_topic',
        default_value='camera/image_raw',
        description='Where the images are published; a relative name follows the namespace.',
    ),
    DeclareLaunchArgument('rviz', default_value='true', description='Also open RViz.'),
]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(str(SEGMENTATION))])
