"""The catalog of checkpoints: found, compared, pinned, verified, selected, deleted. Their bytes are in `artifacts/`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, and_, func, select, true, update

from steep.server.store.database import Database, Transaction
from steep.server.store.measurements import Evaluation, read_evaluations
from steep.server.store.paging import PageRequest, find
from steep.server.store.savings import change_checkpoint, count_bytes, count_freed, mark_deleted, mark_set_aside
from steep.server.store.standings import lock_job
from steep.server.store.tables import checkpoints, evaluations, job_progress, jobs, later_scores
from steep.spec.api.checkpoints import CheckpointView
from steep.spec.api.common import Page
from steep.spec.api.jobs import Progress
from steep.spec.errors import Conflict, NotFound
from steep.spec.events import EventKind

SORTABLE = {
    "step": checkpoints.c.step,
    "created_at": checkpoints.c.created_at,
    "size_bytes": checkpoints.c.size_bytes,
    "gain": evaluations.c.gain,
    "forgetting": evaluations.c.forgetting,
}


class Checkpoints:
    """Checkpoints of all jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, job_id: str, page: PageRequest | None = None, *, with_deleted: bool = False) -> Page[CheckpointView]:
        """A page of a job's checkpoints, by step. Deleted ones still tell what was measured on them."""
        asked = page or PageRequest(page_size=1000)
        query = _whole().where(checkpoints.c.job_id == job_id)
        if not with_deleted:
            query = query.where(checkpoints.c.state != "deleted")
        with self._database.read() as connection:
            found = find(connection, query, asked, SORTABLE, checkpoints.c.step)
            return found.page(asked, _with_scores(connection, job_id, [_view(row) for row in found.rows]))

    def usable(self, job_ids: Collection[str]) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Of some jobs, the steps of checkpoints that are neither deleted nor known to be damaged, and when each was saved."""
        wanted = (
            select(checkpoints.c.job_id, checkpoints.c.step, checkpoints.c.created_at)
            .where(checkpoints.c.job_id.in_(job_ids), checkpoints.c.state.in_(("unverified", "valid")))
            .order_by(checkpoints.c.job_id, checkpoints.c.step)
        )
        found: dict[str, list[tuple[int, float]]] = {job_id: [] for job_id in job_ids}
        with self._database.read() as connection:
            for row in connection.execute(wanted):
                found[row.job_id].append((row.step, row.created_at))
        return found

    def get(self, job_id: str, step: int) -> CheckpointView:
        """One checkpoint, a deleted one too.

        Raises:
            NotFound: there is none at that step.
        """
        with self._database.read() as connection:
            return _with_scores(connection, job_id, [_get(connection, job_id, step)])[0]

    def add_scores(
        self, job_id: str, step: int, scores: Mapping[str, Mapping[str, float]], measured_by: str, now: float
    ) -> None:
        """Write down what a job measured of it later; what the same job wrote before is the same, and no news.

        Args:
            job_id: the checkpoint's.
            step: of the checkpoint.
            scores: metrics by task or text.
            measured_by: id of the job that measured.
            now: the time.

        Raises:
            NotFound: there is no such checkpoint.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            _get(transaction.connection, job_id, step)
            mine = (later_scores.c.job_id == job_id) & (later_scores.c.measured_by == measured_by)
            is_news = transaction.execute(select(later_scores.c.name).where(mine).limit(1)).first() is None
            for name, metrics in scores.items():
                row = {"job_id": job_id, "step": step, "name": name, "measured_by": measured_by, "time": now}
                transaction.put(later_scores, {**row, "metrics": dict(metrics)})
            if is_news:
                message = f"step {step} was measured on {', '.join(scores)} by {measured_by}"
                data = {"step": step, "measured_by": measured_by, "scores": scores}
                transaction.emit(job, EventKind.EVALUATED, message, data=data)

    def evaluations(self, job_id: str) -> Sequence[Evaluation]:
        """What was measured on a job, by step; the base is step 0."""
        with self._database.read() as connection:
            return read_evaluations(connection, job_id)

    def unverified(
        self, before: float, limit: int = 100, *, saved_before: float | None = None
    ) -> Sequence[CheckpointView]:
        """Those whose hashes were last read back before a time, or never: the longest ago first.

        Args:
            before: that time.
            limit: this many at most.
            saved_before: never read back counts for those saved before this time; None: for all.
        """
        settled = true() if saved_before is None else checkpoints.c.created_at < saved_before
        never = and_(checkpoints.c.verified_at.is_(None), settled)
        never_or_long_ago = never | (checkpoints.c.verified_at < before)
        wanted = (
            _whole()
            .where(checkpoints.c.state.in_(("unverified", "valid")), never_or_long_ago)
            .order_by(checkpoints.c.verified_at.asc().nulls_first(), checkpoints.c.created_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_view(row) for row in connection.execute(wanted)]

    def require_sound(self, job_id: str, step: int) -> None:
        """Refuse one that is known to be damaged, whatever is to be made of it. Of one that is not listed nothing is known.

        Raises:
            Conflict: it is.
        """
        same = (checkpoints.c.job_id == job_id) & (checkpoints.c.step == step)
        with self._database.read() as connection:
            state = connection.execute(select(checkpoints.c.state).where(same)).scalar_one_or_none()
        if state == "damaged":
            raise Conflict(
                f"the checkpoint of step {step} is damaged",
                where=job_id,
                cure=f"Use another one. When its bytes are back, `steep checkpoints verify {job_id} {step}` says so.",
            )

    def num_damaged(self, projects: Collection[str] | None = None) -> int:
        """How many there are, of some projects or of all."""
        damaged = select(func.count()).select_from(checkpoints).where(checkpoints.c.state == "damaged")
        if projects is not None:
            damaged = damaged.join(jobs, jobs.c.id == checkpoints.c.job_id).where(jobs.c.project.in_(projects))
        with self._database.read() as connection:
            return int(connection.execute(damaged).scalar_one())

    def pin(self, job_id: str, step: int, pinned: bool, now: float) -> CheckpointView:
        """Keep it whatever the retention policy says, or no longer.

        Raises:
            NotFound: there is none.
            Conflict: it is deleted.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            before = _get(transaction.connection, job_id, step)
            if before.state == "deleted":
                raise _deleted(job_id, step)
            if before.pinned != pinned:
                change_checkpoint(transaction, job_id, step, pinned=pinned)
                kind = EventKind.CHECKPOINT_PINNED if pinned else EventKind.CHECKPOINT_UNPINNED
                transaction.emit(job, kind, f"step {step}", data={"step": step})
            return _get(transaction.connection, job_id, step)

    def verified(
        self,
        job_id: str,
        step: int,
        state: Literal["valid", "damaged"],
        detail: str,
        now: float,
        *,
        saved_at: float | None = None,
    ) -> CheckpointView:
        """Write down what reading its hashes back has shown. Of one that was deleted meanwhile it says nothing, nor of one
        that was saved anew since `saved_at`, where that is given."""
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            before = _get(transaction.connection, job_id, step)
            if before.state != "deleted" and saved_at in (None, before.created_at):
                change_checkpoint(transaction, job_id, step, state=state, verified_at=now)
                damaged = state == "damaged"
                kind = EventKind.CHECKPOINT_DAMAGED if damaged else EventKind.CHECKPOINT_VERIFIED
                if damaged or before.state != "valid":
                    transaction.emit(job, kind, detail or f"step {step}", data={"step": step})
            return _get(transaction.connection, job_id, step)

    def select(self, job_id: str, step: int | None, now: float) -> None:
        """Mark the one that was selected, and no other; None marks none. What was selected is in the job's outcome."""
        with self._database.write(now) as transaction:
            lock_job(transaction, job_id)
            chosen = checkpoints.c.step == step if step is not None else checkpoints.c.step.is_(None)
            transaction.execute(update(checkpoints).where(checkpoints.c.job_id == job_id).values(selected=chosen))

    def delete(self, job_id: str, step: int, freed_bytes: int, detail: str, now: float) -> bool:
        """Write down that its bytes are gone. Returns whether they were there; a second time is fine.

        Raises:
            NotFound: there never was such a checkpoint.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            _get(transaction.connection, job_id, step)
            if not mark_deleted(transaction, job_id, step, freed_bytes):
                return False
            data = {"step": step, "freed_bytes": freed_bytes}
            transaction.emit(job, EventKind.CHECKPOINT_DELETED, detail or f"step {step} deleted", data=data)
            return True

    def count_freed(self, job_id: str, freed_bytes: int, now: float) -> None:
        """Write down how many bytes went after a checkpoint was written down as deleted, such as those of its copy."""
        if freed_bytes:
            with self._database.write(now) as transaction:
                count_freed(transaction, job_id, freed_bytes)

    def set_one_aside(self, job_id: str, step: int, saved_at: float, now: float) -> None:
        """The same for one whose going back was never told of, unless it was saved anew after this time."""
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            if _get(transaction.connection, job_id, step).created_at != saved_at:
                return
            if mark_set_aside(transaction, job_id, [step]):
                detail = f"step {step} was set aside when the job went back"
                transaction.emit(job, EventKind.NOTICE, detail, data={"step": step, "code": "set_aside"})

    def count_aside(self, job_id: str, left_bytes: int, freed_bytes: int, detail: str, now: float) -> None:
        """What was set aside was freed, but for so much that is still needed."""
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            values = {"aside_bytes": left_bytes}
            transaction.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            count_bytes(transaction, job_id)
            count_freed(transaction, job_id, freed_bytes)
            if freed_bytes:
                data = {"freed_bytes": freed_bytes, "code": "set_aside"}
                transaction.emit(job, EventKind.NOTICE, detail, data=data)

    def set_aside(self, job_id: str, after_step: int, detail: str, now: float) -> Sequence[int]:
        """A job went back to a step: later checkpoints are no part of its line any more, nor what was measured on them, and
        its progress is that of the step.

        Returns the steps of those. Their bytes are still there, as `artifacts/lineage.py` keeps them, and count.
        """
        with self._database.write(now) as transaction:
            job = lock_job(transaction, job_id)
            later = and_(checkpoints.c.job_id == job_id, checkpoints.c.step > after_step)
            kept = (
                select(checkpoints.c.step).where(later, checkpoints.c.state != "deleted").order_by(checkpoints.c.step)
            )
            steps = list(transaction.execute(kept).scalars())
            mark_set_aside(transaction, job_id, steps)
            transaction.execute(
                evaluations.delete().where(evaluations.c.job_id == job_id, evaluations.c.step > after_step)
            )
            _go_back(transaction, job_id, after_step)
            transaction.emit(job, EventKind.ROLLED_BACK, detail, data={"step": after_step, "set_aside": steps})
            return steps


def _go_back(transaction: Transaction, job_id: str, step: int) -> None:
    """A limit of tokens counts what the job's line has seen, and what was set aside is no part of that."""
    same = job_progress.c.job_id == job_id
    before = Progress.model_validate(transaction.execute(select(job_progress.c.progress).where(same)).scalar_one())
    tokens = select(checkpoints.c.tokens_seen).where(checkpoints.c.job_id == job_id, checkpoints.c.step == step)
    tokens_seen = transaction.execute(tokens).scalar_one_or_none() or 0
    now = before.model_copy(update={"step": step, "tokens_seen": tokens_seen, "eta_seconds": None})
    transaction.execute(update(job_progress).where(same).values(progress=now.model_dump(mode="json")))


def _whole() -> Select[Any]:
    same = (evaluations.c.job_id == checkpoints.c.job_id) & (evaluations.c.step == checkpoints.c.step)
    measured = (evaluations.c.domain_bpb, evaluations.c.general, evaluations.c.gain, evaluations.c.forgetting)
    return select(checkpoints, *measured).outerjoin(evaluations, same)


def _get(connection: Connection, job_id: str, step: int) -> CheckpointView:
    wanted = _whole().where(checkpoints.c.job_id == job_id, checkpoints.c.step == step)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise NotFound(
            f"job {job_id} has no checkpoint of step {step}",
            where="step",
            cure="`steep checkpoints list` shows those that it has.",
        )
    return _view(row)


def _with_scores(connection: Connection, job_id: str, views: Sequence[CheckpointView]) -> list[CheckpointView]:
    """With what was measured of them later."""
    scores: dict[int, dict[str, dict[str, float]]] = {}
    for row in connection.execute(select(later_scores).where(later_scores.c.job_id == job_id)):
        metrics = {metric: float(value) for metric, value in row.metrics.items()}
        scores.setdefault(row.step, {})[row.name] = metrics
    return [view.model_copy(update={"scores": scores.get(view.step, {})}) for view in views]


def _view(row: Row[Any]) -> CheckpointView:
    return CheckpointView.model_construct(
        job_id=row.job_id,
        step=row.step,
        tokens_seen=row.tokens_seen,
        created_at=row.created_at,
        size_bytes=row.size_bytes,
        attempt=row.attempt,
        state=row.state,
        verified_at=row.verified_at,
        uploaded=row.uploaded,
        pinned=row.pinned,
        selected=row.selected,
        parent=row.parent,
        domain_bpb=row.domain_bpb,
        general_bpb={name: float(score) for name, score in (row.general or {}).items()},
        gain=row.gain,
        forgetting=row.forgetting,
    )


def _deleted(job_id: str, step: int) -> Conflict:
    return Conflict(f"the checkpoint of step {step} is deleted", where=job_id)
