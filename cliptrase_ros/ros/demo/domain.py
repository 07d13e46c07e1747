"""A separate DDS domain for each caller, so that demos and tests on one machine do not hear each
other."""

from __future__ import annotations

import os
import socket

# Above 101 the ports of a domain overlap with Linux's ephemeral ports.
_DOMAINS = range(1, 91)
_LOCK_PORT = 22119


def claim() -> socket.socket:
    """Set ROS_DOMAIN_ID to a domain that no other caller on this machine has, loopback only.

    Call this before rclpy.init. Keep the returned socket as long as the domain is needed: it is
    the lock.

    Raises:
        RuntimeError: all domains are taken.
    """
    for offset in range(len(_DOMAINS)):
        domain = _DOMAINS[(os.getpid() + offset) % len(_DOMAINS)]
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            lock.bind(('127.0.0.1', _LOCK_PORT + domain))
        except OSError:
            lock.close()
            continue
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        return lock
    raise RuntimeError('no free ROS domain on this machine')
