"""Labelling of archives by several Ray workers, each with its own model, on one machine or many.
Only this module imports ray."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import CliptraseError, SettingError, WorkerError
from .archive import ArchiveItem, ItemOutcome, Job
from .local import Labeller

# Otherwise Ray sends usage statistics to its developers.
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
try:
    import ray
except ImportError as error:
    raise SettingError("engine ray needs Ray: pip install 'ray>=2.9'") from error

log = logging.getLogger(__name__)

# Limit of items that a worker gets at once. It is small, so that at the end the others do not wait
# long for one worker.
MOST_AT_ONCE = 16
# The run ends if this many workers in a row die without labelling anything: one bad picture is then
# not the cause.
_DEATHS_IN_A_ROW = 10
# Seconds without a started worker, after which a warning is logged.
_PATIENCE = 60.0
# Bytes. Only paths are sent through it. Ray's minimum is 75 MB.
_OBJECT_STORE = 100_000_000


@dataclass(frozen=True)
class Pool:
    """The workers and their resources.

    Attributes:
        workers: how many; 0: as many as the GPUs allow, or one if there are no GPUs.
        gpus: per worker, may be a fraction; None: 1 if there are GPUs and the settings do not ask
            for the CPU, otherwise 0.
        cpus: per worker, also its number of threads; 0: 1 on a cluster, otherwise an equal share of
            this machine.
        address: of a running cluster, 'auto' for that of this machine; '': start one here and stop
            it at the end.
    """

    workers: int = 0
    gpus: float | None = None
    cpus: int = 0
    address: str = ''


def label(items: Iterable[ArchiveItem], job: Job, pool: Pool) -> Iterator[ItemOutcome]:
    """Label the items; yield the outcome of each in any order. See `local.Labeller`.

    All workers must reach the items under the same paths. If a worker dies, each of its items is
    retried once, alone.

    Raises:
        SettingError: there are not enough CPUs or GPUs, or the cluster does not exist.
        WorkerError: the model cannot be loaded, nothing can be written, or workers keep dying.
    """
    with _connected(pool, job):
        crew = _Crew(items, job, _sized(pool, job))
        try:
            yield from crew.run()
        finally:
            crew.dismiss()


@contextlib.contextmanager
def _connected(pool: Pool, job: Job) -> Iterator[None]:
    """Connect to Ray or start it, unless that is done already."""
    if ray.is_initialized():
        yield
        return
    own = {
        'address': 'local',
        'num_cpus': max(os.cpu_count() or 1, pool.workers * max(pool.cpus, 1)),
        'include_dashboard': False,
        'object_store_memory': _OBJECT_STORE,
    }
    where = {'address': pool.address} if pool.address else own
    try:
        _refuse_silent(pool.address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingError(f'Ray cannot be reached or started ({reason})') from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_silent(address: str) -> None:
    """Raise OSError if nothing listens at the address, and ValueError if it is not HOST:PORT.

    Ray itself would take more than a minute to notice.
    """
    if address in ('', 'auto'):
        return
    host, _, port = address.rpartition(':')
    if not host or not port.isdigit() or '/' in host:
        raise ValueError(f"address: expected 'auto' or HOST:PORT, got {address!r}")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def _sized(pool: Pool, job: Job) -> Pool:
    """Return the pool with all defaults replaced by numbers.

    Raises:
        SettingError: Ray does not have enough CPUs or GPUs.
    """
    there = ray.cluster_resources()
    gpus_there, cpus_there = there.get('GPU', 0), int(there.get('CPU', 0))
    gpus = pool.gpus
    if gpus is None:
        gpus = 1.0 if gpus_there and job.settings.device != 'cpu' else 0.0
    workers = pool.workers or (int(gpus_there // gpus) if gpus else 0) or 1
    cpus = pool.cpus or (1 if pool.address else max(1, cpus_there // workers))
    for what, each, have in (('GPU', gpus, gpus_there), ('CPU', cpus, cpus_there)):
        if workers * each > have:
            raise SettingError(
                f'{workers} workers with {each:g} {what} each: Ray has {have:g} in total; ask for '
                'fewer'
            )
    return Pool(workers, gpus, cpus, pool.address)


class _Worker:
    """A Ray actor: a process with a model."""

    def __init__(self, job: Job):
        self._job = job
        self._labeller: Labeller  # set by `start`
        self._name = f'{socket.gethostname()}:{os.getpid()}'

    def start(self) -> str:
        """Load the model; return '' or why that failed."""
        try:
            self._labeller = Labeller(self._job)
        except (CliptraseError, OSError) as error:
            return str(error)
        return ''

    def label(self, items: list[ArchiveItem]) -> list[ItemOutcome] | str:
        """Label the items; return their outcomes, or why nothing can be written."""
        try:
            return [o._replace(worker=self._name) for o in self._labeller(items)]
        except OSError as error:
            return str(error)


class _Crew:
    """The workers, the items that each of them has, and the items that are left."""

    def __init__(self, items: Iterable[ArchiveItem], job: Job, pool: Pool):
        self._job, self._pool = job, pool
        self._left = deque(items)
        self._again: deque[ArchiveItem] = deque()
        self._tried: set[ArchiveItem] = set()
        self._idle: list[Any] = []
        self._running: dict[ray.ObjectRef, tuple[Any, list[ArchiveItem]]] = {}
        self._started = False
        self._deaths = 0

    def run(self) -> Iterator[ItemOutcome]:
        for _ in range(min(self._pool.workers, len(self._left))):
            self._hire()
        while self._running:
            actor, items, ref = self._next()
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayActorError:
                yield from self._lost(items)
                continue
            if answer and isinstance(answer, str):
                raise WorkerError(answer)
            self._started = True
            self._give(actor)
            if items:
                self._deaths = 0
                yield from answer

    def _next(self) -> tuple[Any, list[ArchiveItem], ray.ObjectRef]:
        """Wait for the next answer; return (actor, its items, reference of the answer)."""
        running = list(self._running)
        ready, _ = ray.wait(running, num_returns=1, timeout=None if self._started else _PATIENCE)
        if not ready:
            log.warning(
                'no worker has started after %g s: Ray is busy with something else, or loading the '
                'model takes long; still waiting',
                _PATIENCE,
            )
            ready, _ = ray.wait(running, num_returns=1)
        return *self._running.pop(ready[0]), ready[0]

    def dismiss(self) -> None:
        """End all workers at once."""
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            ray.kill(actor)

    def _hire(self) -> None:
        options = {'num_cpus': self._pool.cpus, 'num_gpus': self._pool.gpus}
        actor: Any = ray.remote(_Worker).options(**options).remote(self._job)
        self._running[actor.start.remote()] = actor, []

    def _give(self, actor: Any) -> None:
        """Give a worker its next items. Items whose worker died come last, one at a time."""
        most = 1 if self._job.bags else MOST_AT_ONCE
        count = max(1, min(most, len(self._left) // (2 * self._pool.workers)))
        items = [self._left.popleft() for _ in range(min(count, len(self._left)))]
        if not items and self._again:
            items = [self._again.popleft()]
        if items:
            self._running[actor.label.remote(items)] = actor, items
        else:
            self._idle.append(actor)

    def _lost(self, items: list[ArchiveItem]) -> Iterator[ItemOutcome]:
        """Handle the death of a worker that had these items; without items it was loading the
        model."""
        self._deaths += 1
        if not (items or self._started) or self._deaths >= _DEATHS_IN_A_ROW:
            raise WorkerError(
                f'{self._deaths} workers died in a row while '
                + ('labelling' if items else 'loading the model')
                + '; there may not be enough memory: use fewer workers'
            )
        for item in items:
            if self._job.done(item):
                yield ItemOutcome(item)
            elif item in self._tried:
                yield ItemOutcome(
                    item, f'{item.source}: two workers died while labelling it', images=0
                )
            else:
                self._tried.add(item)
                self._again.append(item)
        if self._left or self._again:
            if self._idle:
                self._give(self._idle.pop())
            else:
                self._hire()
