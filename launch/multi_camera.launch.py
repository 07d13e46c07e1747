"""One segmentation node for several cameras.

ros2 launch cliptrase_ros multi_camera.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Other defaults than in the file included, which takes all its other arguments as well.
ARGUMENTS = [
    DeclareLaunchArgument(
        'cameras',
        default_value='front,left,right',
        description='Names of the cameras: inputs front/image, outputs segmentation/front/...',
    ),
    DeclareLaunchArgument(
        'image_topic',
        default_value='/{camera}/image_raw',
        description='Images of each camera; {camera} stands for its name.',
    ),
]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(str(SEGMENTATION))])
