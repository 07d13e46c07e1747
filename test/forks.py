"""Processes that behave like `python -m MODULE`, without the seconds that imports take.

They are forks of a server that has imported the modules once. Each has its own arguments,
environment, standard output, signals, exit code and DDS participant of a node. A fork does not test
the imports, the environment variables that modules read during import, and a normal exit of Python.
Some tests start real interpreters for that.
"""

import atexit
import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import wait

# Put before the command of a real process: it then ends when the tests end, for any reason.
TIED = ['setpriv', '--pdeathsig', 'TERM'] if shutil.which('setpriv') else []

_server = multiprocessing.get_context('forkserver')
# Modules whose packages are not installed (such as rclpy) are not preloaded.
_server.set_forkserver_preload(
    [
        *(f'cliptrase_ros.{name}' for name in ('batch.local', 'cli', 'evaluation.accuracy')),
        *(
            f'cliptrase_ros.ros.{name}'
            for name in ('camera.publisher', 'demo.runner', 'demo.demo_world', 'node')
        ),
    ]
)


@atexit.register
def _kill_all():
    """Kill the processes that failed tests left; multiprocessing would wait for them."""
    for process in multiprocessing.active_children():
        _kill(process)


def _kill(process):
    """Kill a process and all processes that it started."""
    with suppress(ProcessLookupError):  # it has ended, or does not have its own group yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def run(module, *arguments, first=None):
    """Run a Fork to its end; return the same as subprocess.run."""
    fork = Fork(module, *arguments, first=first)
    out, err = fork.communicate()
    return subprocess.CompletedProcess(arguments, fork.returncode, out, err)


class Fork:
    """A process like `python -m MODULE ARGUMENTS` with text pipes, used like subprocess.Popen.

    Args:
        module: a module of cliptrase_ros with a function `main`; or the path of a script, for
            `python SCRIPT ARGUMENTS`.
        arguments: of the command line.
        merged: whether standard error also goes to `stdout`.
        first: a module-level function, called first in the process.
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
        """Kill the process and all processes that it started."""
        _kill(self._process)

    def wait(self, timeout=None):
        """Return the exit code, or None if the process does not end within `timeout` seconds."""
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout=300):
        """Return (standard output, standard error) up to the end of the process.

        Raises:
            AssertionError: the process took longer than `timeout` seconds; it is killed.
        """
        said, deadline = {}, time.monotonic() + timeout

        def read(stream):
            said[stream] = stream.read()

        streams = self.stdout, self.stderr
        readers = [threading.Thread(target=read, args=(s,), daemon=True) for s in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(max(0, deadline - time.monotonic()))
        if any(reader.is_alive() for reader in readers):
            self.kill()
            raise AssertionError(f'{self._process.name} took more than {timeout} s: {said}')
        self.wait()
        return tuple(said[stream] for stream in streams)


def _reader(reader, writer):
    writer.close()  # the process has its own copy now
    with reader:
        return os.fdopen(os.dup(reader.fileno()), errors='replace')


def _run(module, arguments, environment, out, err, first):
    os.setsid()  # puts the process and its children into a new group
    for descriptor, pipe in ((1, out), (2, err)):
        os.dup2(pipe.fileno(), descriptor)
    out.close(), err.close()
    # The streams of the server refer to its own files.
    sys.stdout = os.fdopen(1, 'w', closefd=False)
    sys.stderr = os.fdopen(2, 'w', buffering=1, errors='backslashreplace', closefd=False)
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    # Handle Ctrl-C as in a terminal. A shell that runs the tests in the background makes processes
    # ignore it.
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
    """Make output unbuffered, as with PYTHONUNBUFFERED=1. Use it as `first`."""
    sys.stdout.reconfigure(write_through=True)


def little_disk(size):
    """Limit files to `size` bytes, as on a full disk. Use it as `first`."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _end_with_the_tests():
    """Wait until the tests end, for any reason, and end this process and its children."""
    wait([multiprocessing.parent_process().sentinel])
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)
