import pytest
import rclpy
from rclpy.executors import ExternalShutdownException

from cliptrase_ros.ros.shutdown import until_shutdown


@pytest.mark.parametrize('how', [KeyboardInterrupt, ExternalShutdownException])
def test_signals_are_no_errors(how):
    with until_shutdown():
        raise how()


def test_an_error_is_one_only_while_ros_is_up():
    rclpy.init()
    with pytest.raises(ValueError, match='real'), until_shutdown():
        raise ValueError('real')
    rclpy.shutdown()
    with until_shutdown():
        raise ValueError('published while the context was closed')
