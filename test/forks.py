"""Processes as `python -m MODULE` starts them, without the seconds that imports take.

They are forks of a server that has imported the modules once. Arguments, environment, standard
output, signals, exit code and the DDS participant of a node are those of a process of its own. What
a fork does not show: how a process imports, what modules read of the environment while they do, and
what Python does at a normal end. Some tests start interpreters for that.
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

# Before the command of a true start: whatever ends the tests ends it, too.
TIED = ['setpriv', '--pdeathsig', 'TERM'] if shutil.which('setpriv') else []

_server = multiprocessing.get_context('forkserver')
# What is not installed, such as rclpy, is left out.
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
    """Those of tests that failed; multiprocessing would wait for them."""
    for process in multiprocessing.active_children():
        _kill(process)


def _kill(process):
    """It and all that it started."""
    with suppress(ProcessLookupError):  # it has ended, or has no group of its own yet
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def run(module, *arguments, first=None):
    """Run a Fork to its end: what subprocess.run gives."""
    fork = Fork(module, *arguments, first=first)
    out, err = fork.communicate()
    return subprocess.CompletedProcess(arguments, fork.returncode, out, err)


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
        """End it and all that it started."""
        _kill(self._process)

    def wait(self, timeout=None):
        """The exit code; None if it does not end within the time (in seconds)."""
        self._process.join(timeout)
        return self.returncode

    def communicate(self, timeout=300):
        """(standard output, standard error) to the end.

        Raises:
            AssertionError: it took longer, and was killed.
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
    writer.close()  # the process has it now
    with reader:
        return os.fdopen(os.dup(reader.fileno()), errors='replace')


def _run(module, arguments, environment, out, err, first):
    os.setsid()  # a group of its own, with all that it starts
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
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)
