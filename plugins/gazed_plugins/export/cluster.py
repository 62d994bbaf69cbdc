"""Sharing out recordings among the workers of a dask cluster: one task a recording, and only names travel."""

from __future__ import annotations

import logging
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gazed_plugins.export.errors import MissingExtra, NoScheduler
from gazed_plugins.export.exporter import Exporter
from gazed_plugins.export.outcome import Outcome, export_outcome
from gazed_plugins.export.run import ExportJob, export_exists, make_exporter
from gazed_plugins.extras import install_command, missing_package

if TYPE_CHECKING:
    import distributed

__all__ = ["share_out"]

_CONNECT_S = 5.0
_WORKERS_S = 30.0
_PER_WORKER = 4
_TELL_EVERY_S = 0.5
_DIED = "worker-died"

# Run by each worker as it starts. Ctrl-C reaches all processes of a terminal, and only the first is to act on it; and
# the many objects of dask need not be looked through for garbage again and again, which costs a twentieth of the time.
_PRELOAD = "import gc, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); gc.collect(); gc.freeze()"

_SETTINGS = {
    # Of dask's environment for workers, what keeps them to one thread; not its setting of malloc, which costs a fifth
    # of the time where large arrays come and go. Memory as in a process whose only thread does the work.
    "distributed.nanny.pre-spawn-environ": {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1),
        "MALLOC_ARENA_MAX": 1,
    },
    # A statistical profile of every task, for the dashboard that we do not have.
    "distributed.worker.profile.enabled": False,
    # How many workers a task may outlive before it counts as what kills them.
    "distributed.scheduler.allowed-failures": 1,
}

_Recording = tuple[Path, str]


def share_out(
    job: ExportJob,
    exporter: Exporter,
    recordings: dict[Path, str],
    workers: int,
    scheduler: str,
    tell: Callable[[Path, int, int], None],
) -> Iterator[tuple[Path, Outcome]]:
    """Export recordings on a cluster: that of ``scheduler``, or one of so many processes; yield what becomes of each.

    Only a few tasks a worker are known to the scheduler at a time. A recording whose worker dies is exported by
    another one; where that keeps happening, it has failed.

    Raises:
        MissingExtra: ``gazed[batch]`` is not installed.
        NoScheduler: the scheduler cannot be reached, has no workers, or went away.
    """
    if missing := missing_package("batch"):
        raise MissingExtra(
            f"several workers need gazed[batch], but {missing} is not installed", hint=install_command("batch")
        )
    if scheduler and not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", scheduler):
        raise NoScheduler(f"{scheduler!r:.100} is no address of a scheduler", hint="such as tcp://127.0.0.1:8786")
    with _client(workers, scheduler) as client:
        batch = f"gazed-export-{uuid.uuid4().hex}"
        client.subscribe_topic(batch, lambda event: tell(Path(event[1][0]), event[1][1], event[1][2]))
        try:
            yield from _Batch(client, batch, job, exporter).run(recordings.items())
        except OSError as error:
            raise _gone() from error
        finally:
            with suppress(Exception):  # a scheduler that went away
                client.unsubscribe_topic(batch)


class _Batch:
    """Recordings that are shared out, a few at a time."""

    def __init__(self, client: distributed.Client, topic: str, job: ExportJob, exporter: Exporter) -> None:
        self._client = client
        self._topic = topic
        self._job = job
        self._exporter = exporter
        self._tasks: dict[str, tuple[_Recording, bool]] = {}
        self._numbers = count()

    def run(self, recordings: Iterable[_Recording]) -> Iterator[tuple[Path, Outcome]]:
        """Yield what becomes of each."""
        window = _PER_WORKER * max(1, sum(self._client.nthreads().values()))
        suspects: list[_Recording] = []
        for recording, outcome in self._shared(recordings, window):
            if outcome.error.get("code") == _DIED:
                suspects.append(recording)
            else:
                yield recording[0], outcome
        # If a worker dies, all that it has before it are suspected of it; one at a time, only the one that it was.
        for suspect in suspects:
            for recording, outcome in self._shared([suspect], 1):
                yield recording[0], outcome

    def _shared(self, recordings: Iterable[_Recording], window: int) -> Iterator[tuple[_Recording, Outcome]]:
        from distributed import as_completed

        left = iter(recordings)
        running = as_completed([self._submit(each) for each in islice(left, window)], loop=self._client.loop)
        for future in running:
            recording, fresh = self._tasks.pop(future.key)
            outcome = _outcome(future, recording[0])
            if fresh and outcome.skipped:
                outcome = msgspec.structs.replace(outcome, skipped=False)
            future.release()
            yield recording, outcome
            for each in islice(left, 1):
                running.add(self._submit(each))

    def _submit(self, recording: _Recording) -> distributed.Future:
        folder, label = recording
        # The result of a worker that dies before it is fetched is lost: the task then runs once more, and finds what it
        # has made itself.
        fresh = not export_exists(self._job, self._exporter, folder, label)
        job = msgspec.structs.replace(self._job, resume=self._job.resume or fresh)
        key = f"{self._topic}-{next(self._numbers)}"
        self._tasks[key] = recording, fresh
        return self._client.submit(_task, job, str(folder), label, self._topic, key=key, pure=False)


def _task(job: ExportJob, folder: str, label: str, batch: str) -> Outcome:
    """Run on a worker."""
    from distributed import get_worker

    worker, told = get_worker(), 0.0

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL_EVERY_S:
            told = time.monotonic()
            worker.log_event(batch, [folder, done, of])

    return export_outcome(job, make_exporter(job), Path(folder), label, tell)


def _gone() -> NoScheduler:
    return NoScheduler("the scheduler went away", hint="start it again with --resume; what was exported is whole")


def _outcome(future: distributed.Future, folder: Path) -> Outcome:
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise _gone()
    error = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return outcome
    if isinstance(error, KilledWorker):
        what = f"{folder}: the process that exported it died, again and again"
        return Outcome(error={"code": _DIED, "message": what, "hint": "fewer --workers leave each more memory"})
    return Outcome(error={"code": "unexpected", "message": f"{folder}: {type(error).__name__}: {error}", "hint": ""})


@contextmanager
def _client(workers: int, scheduler: str) -> Iterator[distributed.Client]:
    """Connect to a scheduler, or to one of our own with so many processes, on the loopback interface."""
    import dask.config
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        address: Any = scheduler
        if not scheduler:
            stack.enter_context(dask.config.set(_SETTINGS))
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gazed-export-"))
            # No limit of memory: an export takes what it takes, and one that is killed is not the better for it.
            address = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    protocol="tcp",
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                    local_directory=scratch,
                    memory_limit=0,
                    preload=[_PRELOAD],
                )
            )
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_S, set_as_default=False))
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except (OSError, ValueError) as error:
            raise NoScheduler(
                f"{scheduler or 'the local scheduler'} cannot be used: {error or 'it does not answer'}",
                hint="dask scheduler and dask worker have to run; give the address that dask scheduler shows",
            ) from error
        yield client
