"""Nodes in separate processes, as launch starts them, and waiting for what they do."""

import signal
import threading
import time
from functools import partial
from importlib import import_module
from pathlib import Path

from forks import Fork

ROOT = Path(__file__).parents[2]
TINY = ('model:=cliptrase-tiny', 'weights:=random', 'device:=cpu', 'input_size:=96')


def _change(constants):
    for name, value in constants.items():
        home, _, constant = name.rpartition('.')
        setattr(import_module(f'cliptrase_ros.ros.{home}'), constant, value)


class Process:
    """A node's process and what it prints.

    Args:
        module: module of cliptrase_ros.ros whose `main` runs.
        parameters, remaps, files: values for `-p`, `-r` and `--params-file`.
        constants: {'module.NAME': value} to change in cliptrase_ros.ros.
    """

    def __init__(self, module, parameters=(), remaps=(), files=(), constants=()):
        arguments = ['--ros-args']
        for file in files:
            arguments += ['--params-file', str(file)]
        for parameter in parameters:
            arguments += ['-p', parameter]
        for remap in remaps:
            arguments += ['-r', remap]
        first = partial(_change, dict(constants))
        self._process = Fork(f'ros.{module}', *arguments, merged=True, first=first)
        self._lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.append(line)

    @property
    def output(self):
        return ''.join(self._lines)

    @property
    def running(self):
        return self._process.poll() is None

    def send(self, how):
        self._process.send_signal(how)

    def end(self, how=signal.SIGINT, timeout=30):
        """End the process as a person or launch does. Return its exit code."""
        self.send(how)
        return self.wait(timeout)

    def wait(self, timeout=60):
        """Wait until the process ends by itself. Return its exit code."""
        if self._process.wait(timeout) is None:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f'it had to be killed\n{self.output}')
        self._reader.join(5)
        return self._process.returncode


def wait_for(condition, timeout=60.0, what='', process=None):
    """Wait until the condition holds. If it does not, fail with what the process printed."""
    deadline = time.monotonic() + timeout
    while not condition():
        output = process.output if process else ''
        assert process is None or process.running, f'{what}: the node ended\n{output}'
        assert time.monotonic() < deadline, f'not within {timeout} s: {what}\n{output}'
        time.sleep(0.01)


def call(client, request, timeout=60, patience=20):
    """Return the answer of a service.

    Ask again if no answer comes: an answer is lost if it is sent while service and client still
    discover each other (rmw_fastrtps waits 100 ms for the client's reader).
    """
    assert client.wait_for_service(timeout), 'no such service'
    for _ in range(round(timeout / patience)):
        result = ask(client, request, patience)
        if result is not None:
            return result
    raise AssertionError('no answer')


def ask(client, request, timeout):
    """Return the answer of a service, or None if none comes in time."""
    answered = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    return future.result() if answered.wait(timeout) else None
