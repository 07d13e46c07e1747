"""Processes as `python -m MODULE` starts them, without the seconds that imports take.

They are forks of a server that has imported the modules once. Else all is as in a process of its
own: arguments, environment, standard output, signals, exit code, the DDS participant of a node.
What a fork does not show: how a process imports, and what Python does at a normal end. Some tests
start interpreters for that.
"""

import multiprocessing
import os
import resource
import runpy
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from multiprocessing.connection import wait

_server = multiprocessing.get_context('forkserver')
# What is not installed, such as rclpy, is left out.
_server.set_forkserver_preload(
    [
        *(f'cliptrase_ros.{name}' for name in ('archive', 'bags', 'cli', 'evaluation')),
        *(f'cliptrase_ros.ros.{name}' for name in ('camera', 'demo', 'node', 'world')),
    ]
)


class Fork:
    """`python -m MODULE ARGUMENTS` with text pipes, in the manner of subprocess.Popen.

    Args:
        module: of cliptrase_ros, with a function `main`; or the path of a script, for
            `python SCRIPT ARGUMENTS`.
        arguments: of the command line.
        merged: whether standard error goes into `stdout`, too.
        first: a function of a module, called in the process before all else.
    """

    def __init__(self, module, *arguments, merged=False, first=None):
        out, err = _server.Pipe(duplex=False), _server.Pipe(duplex=False)
        arguments = [os.fspath(argument) for argument in arguments]
        self._process = _server.Process(
            target=_run,
            args=(module, arguments, dict(os.environ), out[1], out[1] if merged else err[1], first),
        )
        self._process.start()
        self.stdout, self.stderr = _reader(*out), _reader(*err)

    pid = property(lambda self: self._process.pid)
    returncode = property(lambda self: self._process.exitcode)

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout=None):
        """The exit code; None if it does not end within the time (in seconds)."""
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout=300):
        """(standard output, standard error) to the end; one that takes longer is killed."""
        limit = threading.Timer(timeout, self.kill)
        limit.start()
        with ThreadPoolExecutor(2) as pool:
            said = tuple(pool.map(lambda stream: stream.read(), (self.stdout, self.stderr)))
        self.wait()
        limit.cancel()
        return said


def _reader(reader, writer):
    writer.close()  # the process has it now
    with reader:
        return os.fdopen(os.dup(reader.fileno()), errors='replace')


def _run(module, arguments, environment, out, err, first):
    for descriptor, pipe in ((1, out), (2, err)):
        os.dup2(pipe.fileno(), descriptor)
    out.close(), err.close()
    # The server's were made for files of its own.
    sys.stdout = os.fdopen(1, 'w', closefd=False)
    sys.stderr = os.fdopen(2, 'w', buffering=1, errors='backslashreplace', closefd=False)
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    # As in a terminal, though a shell that runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    if first:
        first()
    sys.argv = [module, *arguments]
    if module.endswith('.py'):
        runpy.run_path(module, run_name='__main__')
        return
    sys.exit(import_module(f'cliptrase_ros.{module}').main())


def unbuffered():
    """As with PYTHONUNBUFFERED=1. Use it as `first`."""
    sys.stdout.reconfigure(write_through=True)


def little_disk(size):
    """As on a disk with room for files of so many bytes. Use it as `first`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _end_with_the_tests():
    """Whatever ends them: no process is left over."""
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    os._exit(1)
