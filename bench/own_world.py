"""A ROS domain of its own for a benchmark."""

import contextlib
import os
from pathlib import Path

import rclpy

from cliptrase_ros.ros.demo import domain
from cliptrase_ros.ros.demo.runner import PROFILE
from cliptrase_ros.ros.shutdown import spun

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def world(folder, profile=True):
    """Claim a ROS domain and yield a node in it.

    Args:
        folder: for logs and for an empty word cache.
        profile: use the transport profile of the package, not Fast DDS's default.
    """
    if profile:
        for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
            os.environ[name] = str(ROOT / PROFILE)
    os.environ |= {'ROS_LOG_DIR': folder, 'XDG_CACHE_HOME': folder}
    lock = domain.claim()
    rclpy.init()
    try:
        with spun(rclpy.create_node('bench')) as robot:
            yield robot
    finally:
        rclpy.try_shutdown()
        lock.close()
