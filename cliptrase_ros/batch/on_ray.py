"""Archives labelled by several workers of Ray, each with a model of its own, on one machine or
many. The only importer of ray."""

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

# Ray would otherwise tell its makers that it is used.
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
try:
    import ray
except ImportError as error:
    raise SettingError("engine ray needs Ray: pip install 'ray>=2.9'") from error

log = logging.getLogger(__name__)

# Items handed out at once: few enough that none waits at the end for one worker's many.
MOST_AT_ONCE = 16
# So many workers that die one after the other, none of them having labelled anything, are no
# accident of one picture.
_DEATHS_IN_A_ROW = 10
# Seconds without any worker, after which we say so.
_PATIENCE = 60.0
# Bytes; nothing but paths goes through it. Ray takes no less than 75 MB.
_OBJECT_STORE = 100_000_000


@dataclass(frozen=True)
class Pool:
    """Which workers there are.

    Attributes:
        workers: how many; 0: as many as there are GPUs for, or one where there is none.
        gpus: of each worker, parts too; None: 1 where there are GPUs and the settings do not ask
            for the CPU.
        cpus: of each worker, and its threads; 0: on a cluster 1, else its share of this machine.
        address: of a cluster that runs, 'auto' for that of this machine; '': one is started here,
            and stopped at the end.
    """

    workers: int = 0
    gpus: float | None = None
    cpus: int = 0
    address: str = ''


def label(items: Iterable[ArchiveItem], job: Job, pool: Pool) -> Iterator[ItemOutcome]:
    """What became of each item, in no order; see `local.Labeller`. All workers have to reach
    the items by the same paths. An item whose worker dies is tried once more, on its own.

    Raises:
        SettingError: there are not as many CPUs or GPUs, or no such cluster.
        WorkerError: the model cannot be loaded, nothing can be written, or workers die
            whatever they do.
    """
    with _connected(pool, job):
        crew = _Crew(items, job, _sized(pool, job))
        try:
            yield from crew.run()
        finally:
            crew.dismiss()


@contextlib.contextmanager
def _connected(pool: Pool, job: Job) -> Iterator[None]:
    """Ray, if it is not there already."""
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
    """Raise OSError where nobody listens, for which Ray takes more than a minute, and ValueError
    for what is no HOST:PORT."""
    if address in ('', 'auto'):
        return
    host, _, port = address.rpartition(':')
    if not host or not port.isdigit() or '/' in host:
        raise ValueError(f"{address!r} is neither 'auto' nor HOST:PORT")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def _sized(pool: Pool, job: Job) -> Pool:
    """The pool with every number in it."""
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
                f'{workers} workers with {each:g} {what} each: Ray has {have:g} in all; ask for '
                'fewer'
            )
    return Pool(workers, gpus, cpus, pool.address)


class _Worker:
    """An actor: a process with a model."""

    def __init__(self, job: Job):
        self._job = job
        self._labeller: Labeller  # from `start` on
        self._name = f'{socket.gethostname()}:{os.getpid()}'

    def start(self) -> str:
        """Load the model: '' or why not."""
        try:
            self._labeller = Labeller(self._job)
        except (CliptraseError, OSError) as error:
            return str(error)
        return ''

    def label(self, items: list[ArchiveItem]) -> list[ItemOutcome] | str:
        """What became of the items, or why nothing can."""
        try:
            return [o._replace(worker=self._name) for o in self._labeller(items)]
        except OSError as error:
            return str(error)


class _Crew:
    """Workers, what each of them does, and what is left."""

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
        """Whoever is ready next, what they were to do, and the answer."""
        running = list(self._running)
        ready, _ = ray.wait(running, num_returns=1, timeout=None if self._started else _PATIENCE)
        if not ready:
            log.warning(
                'no worker has begun after %g s: Ray is busy with something else, or loading the '
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
        """Hand out what is next; what killed a worker comes last, one by one."""
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
        """A worker died over these items, or, if there are none, loading the model."""
        self._deaths += 1
        if not (items or self._started) or self._deaths >= _DEATHS_IN_A_ROW:
            raise WorkerError(
                f'{self._deaths} workers died one after the other, '
                + ('labelling' if items else 'loading the model')
                + '; memory may be too small for so many workers'
            )
        for item in items:
            if self._job.done(item):
                yield ItemOutcome(item)
            elif item in self._tried:
                yield ItemOutcome(item, f'{item.source}: two workers died of it', images=0)
            else:
                self._tried.add(item)
                self._again.append(item)
        if self._left or self._again:
            if self._idle:
                self._give(self._idle.pop())
            else:
                self._hire()
