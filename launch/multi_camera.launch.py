"""Start one segmentation node for several cameras, and on request RViz (rviz:=true).

ros2 launch cliptrase_ros multi_camera.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription

SEGMENTATION = Path(__file__).with_name('segmentation.launch.py')

# Arguments with other defaults than in the included file. Its other arguments work here too.
ARGUMENTS = [
    DeclareLaunchArgument(
        'cameras',
        default_value='front,left,right',
        description='Names of the cameras. Inputs: front/image; outputs: segmentation/front/...',
    ),
    DeclareLaunchArgument(
        'image_topic',
        default_value='/{camera}/image_raw',
        description='Topic of the images of each camera; {camera} stands for its name.',
    ),
]


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(str(SEGMENTATION))])
