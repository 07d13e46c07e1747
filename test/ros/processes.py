"""Nodes in processes of their own, as launch starts them, and waiting for what they do.

They are forks of a server that has imported the nodes once: all else of a process of its own is
real, its signals and its DDS participant too. test_node.py has true starts.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ('model:=cliptrase-tiny', 'weights:=random', 'device:=cpu', 'input_size:=96')

_forks = multiprocessing.get_context('forkserver')
_forks.set_forkserver_preload([f'cliptrase_ros.ros.{name}' for name in ('node', 'camera', 'world')])


def _main(module, arguments, environment, output, constants):
    """What `python -m` does, in the fork."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for name, value in constants.items():
        home, _, constant = name.partition('.')
        setattr(import_module(f'cliptrase_ros.ros.{home}'), constant, value)
    sys.argv = [module, *arguments]
    sys.exit(import_module(f'cliptrase_ros.ros.{module}').main())


class Process:
    """A node's process and what it prints.

    Args:
        module: of cliptrase_ros.ros; its `main` runs.
        parameters, remaps, files: as `-p`, `-r` and `--params-file` have them.
        constants: {'module.NAME': value} that differ from those of cliptrase_ros.ros.
    """

    def __init__(self, module, parameters=(), remaps=(), files=(), constants=()):
        arguments = ['--ros-args']
        for file in files:
            arguments += ['--params-file', str(file)]
        for parameter in parameters:
            arguments += ['-p', parameter]
        for remap in remaps:
            arguments += ['-r', remap]
        reader, writer = _forks.Pipe(duplex=False)
        self._process = _forks.Process(
            target=_main, args=(module, arguments, dict(os.environ), writer, dict(constants))
        )
        self._process.start()
        writer.close()
        self._lines = []
        self._reader = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._reader.start()

    def _read(self, reader):
        with os.fdopen(os.dup(reader.fileno())) as lines:
            reader.close()
            for line in lines:
                self._lines.append(line)

    @property
    def output(self):
        return ''.join(self._lines)

    @property
    def running(self):
        return self._process.is_alive()

    def send(self, how):
        os.kill(self._process.pid, how)

    def end(self, how=signal.SIGINT, timeout=30):
        """End it as a person or launch does; its exit code."""
        if self.running:
            self.send(how)
        return self.wait(timeout)

    def wait(self, timeout=60):
        """Wait for its own end; its exit code."""
        self._process.join(timeout)
        if self.running:
            self._process.kill()
            self._process.join()
            raise AssertionError(f'it had to be killed\n{self.output}')
        self._reader.join(5)
        return self._process.exitcode


def wait_for(condition, timeout=60.0, what='', process=None):
    """Wait until the condition holds; fail with what the process printed."""
    deadline = time.monotonic() + timeout
    while not condition():
        output = process.output if process else ''
        assert process is None or process.running, f'{what}: the node ended\n{output}'
        assert time.monotonic() < deadline, f'not within {timeout} s: {what}\n{output}'
        time.sleep(0.01)


def call(client, request, timeout=60, patience=20):
    """The answer of a service.

    Asked again where none comes: one that is sent while service and client still discover each
    other is lost (rmw_fastrtps waits 100 ms for the client's reader).
    """
    assert client.wait_for_service(timeout), 'no such service'
    for _ in range(round(timeout / patience)):
        result = ask(client, request, patience)
        if result is not None:
            return result
    raise AssertionError('no answer')


def ask(client, request, timeout):
    """The answer of a service, or None if none comes in time."""
    answered = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    return future.result() if answered.wait(timeout) else None
