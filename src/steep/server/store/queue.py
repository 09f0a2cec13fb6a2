"""The queue: what a scheduler must know to decide, and what it decided about those that wait on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
    true,
    union_all,
    update,
)

from steep.server.placement import MANY_AHEAD, NUM_COUNTED, Wait
from steep.server.store.atonce import AtOnce
from steep.server.store.database import Database, Transaction
from steep.server.store.projects import stored_bytes
from steep.server.store.standings import columns_of, standing_of
from steep.server.store.tables import (
    IS_FAR_BACK,
    IS_QUEUED,
    LINE,
    attempts,
    device_leases,
    job_progress,
    jobs,
    projects,
)
from steep.server.waiting import OfferedDevice, ProjectUse, RunningJob, Snapshot, WaitingJob
from steep.spec.events import EventKind
from steep.spec.states import HOLDS, State, advance

NUM_HEADS = NUM_COUNTED + 28
"""So many jobs of a line are looked at in one decision, those that ask for the same and differ in age alone. No fewer than sentences
count: of one that is left out, more are ahead than that, whoever else was."""

_CHUNK = 500  # rows of a statement; SQLite takes so many parameters and no more


@dataclass(frozen=True, slots=True)
class DeviceLease:
    """A device that is lent.

    Args:
        project: of the job that has it.
        expected_end: when the job's stage in work will be over, as far as its worker said; what follows it is short.
    """

    backend: str
    device_id: str
    job_id: str
    attempt: int
    since: float
    project: str
    expected_end: float | None


class Queue:
    """Waiting jobs, running ones and lent devices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def snapshot(self, now: float, devices: Sequence[OfferedDevice] = ()) -> Snapshot:
        """All who wait and run, at one moment. The devices are those that backends have, lent ones too."""
        with self._database.read() as connection:
            return self._snapshot(connection, _WAITING, now, devices)

    def heads(self, now: float, devices: Sequence[OfferedDevice] = (), *, most: int = NUM_HEADS) -> Snapshot:
        """What `placement.place` decides on: as `snapshot`, without those of long lines whose turn cannot come now.

        Left out are jobs behind the first of their line, the oldest that ask for the same in the same project and with the
        same priority, of which it is written down already that many are ahead; and those that are backing off. For all
        others the decision is the same: as many as are placed of one line at once, and then the next turn goes on.
        """
        with self._database.read() as connection:
            return self._snapshot(connection, _HEADS, now, devices, {"now": now, "most": most})

    @staticmethod
    def _snapshot(
        connection: Connection,
        query: AtOnce,
        now: float,
        devices: Sequence[OfferedDevice],
        values: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        return Snapshot(
            now=now,
            waiting=list(map(_AS_JOB, query.plain(connection, values))),
            running=_running(connection),
            devices=devices,
            projects=_projects(connection),
        )

    def leases(self) -> list[DeviceLease]:
        """All devices that are lent, and to whom."""
        with self._database.read() as connection:
            return [_lease(row) for row in _LEASES.rows(connection)]

    def num_leases(self) -> int:
        """How many devices are lent."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(device_leases)).scalar_one())

    def counts(self, names: Collection[str] | None = None) -> dict[State, int]:
        """Number of jobs by state, of some projects or of all."""
        counted = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        if names is not None:
            counted = counted.where(jobs.c.project.in_(names))
        with self._database.read() as connection:
            return {State(state): count for state, count in connection.execute(counted)}

    def record_waits(self, waits: Sequence[Wait], now: float) -> int:
        """Write down why jobs wait on. Only what changed is written; a job that waits no more is passed over.

        A new reason is an event; a sentence that tells another number of jobs ahead is none. Returns how many changed.
        """
        changed = 0
        for start in range(0, len(waits), _CHUNK):
            with self._database.write(now, durable=False) as transaction:
                changed += _write_waits(transaction, waits[start : start + _CHUNK])
        return changed


_LEASES = AtOnce(
    select(device_leases, jobs.c.project, job_progress.c.progress)
    .join(jobs, jobs.c.id == device_leases.c.job_id)
    .join(job_progress, job_progress.c.job_id == device_leases.c.job_id)
    .order_by(device_leases.c.backend, device_leases.c.device_id)
)


def _lease(row: Any) -> DeviceLease:
    left, at = row.progress.get("eta_seconds"), row.progress.get("updated_at")
    end = None if left is None or at is None else at + left
    return DeviceLease(row.backend, row.device_id, row.job_id, row.attempt, row.since, row.project, end)


def _write_waits(transaction: Transaction, waits: Sequence[Wait]) -> int:
    wanted = {wait.job_id: wait for wait in waits}
    waiting = and_(jobs.c.id.in_(wanted), jobs.c.state == str(State.QUEUED), jobs.c.reason.not_in(map(str, HOLDS)))
    columns = (jobs.c.id, jobs.c.project, jobs.c.state, jobs.c.reason, jobs.c.detail, jobs.c.since, jobs.c.version)
    rows = transaction.lock(select(*columns).where(waiting).order_by(jobs.c.id)).all()
    values = []
    for row in rows:
        wait = wanted[row.id]
        if (row.reason, row.detail) == (str(wait.reason), wait.detail):
            continue
        standing = advance(standing_of(row), State.QUEUED, wait.reason, wait.detail, transaction.now)
        values.append(
            {"row_id": row.id, "row_version": row.version, "version": row.version + 1, **columns_of(standing)}
        )
        if row.reason != str(wait.reason):
            transaction.emit(row, EventKind.QUEUED, wait.detail, data={"reason": str(wait.reason)})
    if values:
        same = and_(jobs.c.id == bindparam("row_id"), jobs.c.version == bindparam("row_version"))
        names = ("state", "reason", "detail", "since", "version")
        transaction.execute(update(jobs).where(same).values({name: bindparam(name) for name in names}), values)
    return len(values)


_AS_JOB: Callable[[Sequence[Any]], WaitingJob] = partial(tuple.__new__, WaitingJob)  # `_make`, at a third of its time


_COLUMNS = tuple(jobs.c[name] for name in WaitingJob._fields)
_WAITS = and_(jobs.c.state == str(State.QUEUED), jobs.c.reason.not_in(tuple(map(str, HOLDS))))
_IS_READY = or_(jobs.c.not_before <= bindparam("now"), jobs.c.since > bindparam("now"))  # as `waiting.is_backing_off`


def _heads_of_lines(*, laterally: bool) -> Select[Any]:
    """The first of each line. PostgreSQL reads so many rows for each; SQLite, which cannot say that, looks for their ids."""
    lines = (
        select(*(jobs.c[name] for name in LINE)).where(jobs.c.state == str(State.QUEUED)).distinct().subquery("lines")
    )
    same_line = and_(*(jobs.c[name].is_not_distinct_from(lines.c[name]) for name in LINE))
    columns = _COLUMNS if laterally else (jobs.c.id,)
    first = select(*columns).where(_WAITS, _IS_READY, same_line).order_by(jobs.c.queued_at, jobs.c.id)
    first = first.limit(bindparam("most")).correlate(lines)
    if laterally:
        heads = first.lateral("heads")
        return select(*heads.c).select_from(lines.join(heads, true()))
    all_jobs = jobs.alias("heads")
    heads_of = all_jobs.c.id.in_(first)
    return select(*(all_jobs.c[name] for name in WaitingJob._fields)).select_from(lines.join(all_jobs, heads_of))


def _heads(*, laterally: bool) -> CompoundSelect[Any]:
    """The first of each line, and whoever is not known to be far back."""
    first = _heads_of_lines(laterally=laterally).subquery("first")
    far_back = select(*first.c).where(first.c.detail.like(f"%{MANY_AHEAD}"))
    return union_all(select(*_COLUMNS).where(IS_QUEUED, not_(IS_FAR_BACK), _WAITS, _IS_READY), far_back)


_WAITING = AtOnce(select(*_COLUMNS).where(_WAITS))
_HEADS = AtOnce(_heads(laterally=True), on_sqlite=_heads(laterally=False))
_LENT = AtOnce(select(device_leases.c.job_id, device_leases.c.backend, device_leases.c.device_id))
_LIVING = AtOnce(
    select(jobs.c.id, jobs.c.project, jobs.c.priority, attempts.c.gpus, attempts.c.started_at, attempts.c.state)
    .join(attempts, attempts.c.job_id == jobs.c.id)
    .where(attempts.c.ended_at.is_(None))
)


def _running(connection: Connection) -> list[RunningJob]:
    devices: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for job_id, backend, device_id in _LENT.plain(connection):
        devices[job_id].append((backend, device_id))
    return [
        RunningJob(
            id=job_id,
            project=project,
            priority=priority,
            devices=tuple(sorted(devices[job_id])),
            gpus=gpus,
            started_at=started_at,
            stopping=state == State.STOPPING,
        )
        for job_id, project, priority, gpus, started_at, state in _LIVING.plain(connection)
    ]


def _projects(connection: Connection) -> list[ProjectUse]:
    """What is stored is summed up only for projects that may not store as much as they like."""
    rows = connection.execute(select(projects)).all()
    bounded = [row.name for row in rows if row.quota_stored_bytes is not None]
    stored = stored_bytes(connection, bounded) if bounded else {}
    return [
        ProjectUse(
            name=row.name,
            share=row.share,
            quota_gpus=row.quota_gpus,
            quota_jobs=row.quota_jobs,
            quota_stored_bytes=row.quota_stored_bytes,
            stored_bytes=stored.get(row.name, 0),
        )
        for row in rows
    ]
