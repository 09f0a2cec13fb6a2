"""The scheduler: looks at who waits and at what there is, decides, and carries it out.

    snapshot -> placement.place -> attempts.begin -> backend.submit -> attempts.provisioned

Beginning an attempt lends its devices, before anything runs. A server that dies between there and the last step leaves an
attempt without a handle; a later turn, of whichever replica, submits it again, which starts nothing that runs already. It waits
until whoever began it would be done with it: a replica that starts many may have lost its lease on this loop meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from steep.artifacts.files import make_directory
from steep.compute.contract import LONGEST_SUBMIT_SECONDS, Device, Order
from steep.corpus.addresses import PUBLIC_ONLY
from steep.server.admission import resolve
from steep.server.copies import with_store
from steep.server.failure import Ending
from steep.server.fencing import fence
from steep.server.offers import offered_devices
from steep.server.placement import Decisions, Placement, place
from steep.server.service import Service
from steep.server.store.attempts import Living
from steep.server.tracing import ATTEMPT, JOB
from steep.server.waiting import OfferedDevice
from steep.server.workersecrets import secrets_for_workers
from steep.spec.errors import (
    EXIT_STOPPED,
    Conflict,
    DamagedArtifact,
    InvalidInput,
    NotFound,
    OutOfSpace,
    ServerUnavailable,
    SteepError,
)
from steep.spec.states import Reason

log = logging.getLogger(__name__)

PUT_OFF_SECONDS = 5.0
"""How long a job waits that the server's disk keeps from beginning. The devices go to others meanwhile."""

Offered = Mapping[tuple[str, str], tuple[Device, OfferedDevice]]


class Scheduler:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store

    def turn(self) -> None:
        """Mend what was left half done, then place whoever can be placed."""
        self._mend()
        snapshot = self._store.queue.heads(self._service.now())
        if not snapshot.waiting:
            return
        offered = self._offered()
        snapshot = replace(snapshot, devices=[one for _, one in offered.values()])
        with self._service.traces.span("schedule", {"steep.waiting": len(snapshot.waiting)}, {}) as span:
            decisions = place(snapshot)
            span.tell({"steep.placed": len(decisions.placements), "steep.preempted": len(decisions.preemptions)})
            self._carry_out(decisions, offered)
        self._service.queue_places.refresh(self._service.now(), snapshot.devices)

    def _carry_out(self, decisions: Decisions, offered: Offered) -> None:
        for placement in decisions.placements:
            try:
                self._start(placement, [offered[placement.backend, name][0] for name in placement.devices])
            except ServerUnavailable:
                raise
            except (SteepError, OSError) as error:  # one job's trouble keeps no other from beginning
                log.warning("%s could not be started now: %s", placement.job_id, error)
        for preemption in decisions.preemptions:
            try:
                self._store.jobs.request_stop(
                    preemption.job_id, Reason.PREEMPT_REQUESTED, preemption.detail, self._service.now()
                )
            except (Conflict, NotFound) as late:
                log.info("%s is not preempted: %s", preemption.job_id, late)
        self._store.queue.record_waits(decisions.waits, self._service.now())

    def _offered(self) -> Offered:
        return {(one.backend, one.id): (device, one) for device, one in offered_devices(self._service.backends)}

    # ---------------------------------------------------------------------------------------------------- beginning

    def _start(self, placement: Placement, devices: list[Device]) -> None:
        """Lend the devices and submit. What goes wrong concerns this job alone."""
        service, job_id = self._service, placement.job_id
        try:
            self._prepare(job_id)
            secrets = self._secrets(job_id)  # before any device is lent
            begun = self._store.attempts.begin(
                job_id,
                placement.backend,
                devices,
                service.now(),
                lease_seconds=service.settings.patience.lease,
                price_per_second=service.settings.prices.per_second(
                    [one.model for one in devices if one.kind == "gpu"]
                ),
            )
        except (Conflict, NotFound) as late:
            log.info("%s is not begun: %s", job_id, late)
            service.bell.ring()
        except (InvalidInput, DamagedArtifact) as error:
            self._refuse(job_id, error)
        except (OutOfSpace, OSError) as error:
            log.warning("%s is not begun now: %s", job_id, error)
            detail = f"cannot be begun now: {error}"
            self._store.jobs.put_off(job_id, detail, service.now(), delay_seconds=PUT_OFF_SECONDS)
        else:
            (service.run(job_id).path / "error.json").unlink(missing_ok=True)  # an earlier attempt's last word
            with service.traces.span("submit", {JOB: job_id, ATTEMPT: begun.number}, {}):
                self._submit(placement.backend, job_id, begun.number, begun.token, placement.devices, secrets)

    def _prepare(self, job_id: str) -> None:
        """The run directory with its job file, as the worker will read it; a branch's is there already."""
        run = self._service.run(job_id)
        if not run.job_file.exists():
            make_directory(run.path)
            spec = resolve(self._store.jobs.spec(job_id), self._service)
            run.write_spec(with_store(spec, self._service, job_id))

    def _secrets(self, job_id: str) -> dict[str, str]:
        """Those of the job's project, as variables.

        Raises:
            DamagedArtifact: one of them cannot be opened.
        """
        return secrets_for_workers(self._service, self._store.jobs.owner(job_id).project)

    def _refuse(self, job_id: str, error: InvalidInput | DamagedArtifact) -> None:
        """What the job needs is not there any more, such as a file that was deleted while it waited, or the key of a secret."""
        log.warning("%s cannot begin: %s", job_id, error)
        detail = f"cannot begin: {error}"
        self._store.jobs.hold(job_id, Reason.HELD_BY_USER, detail, self._service.now())

    def _submit(
        self, backend: str, job_id: str, number: int, token: str, devices: tuple[str, ...], secrets: Mapping[str, str]
    ) -> None:
        """Submit an attempt for the first time."""
        order = self._order(job_id, number, token, devices, secrets)
        try:
            handle = self._service.backends[backend].submit(order)
        except SteepError as error:
            self._give_up(job_id, number, error)
        except OSError as error:  # of what nobody knows how far it came: it is mended, and not ended
            log.warning("%s/%d may not have been submitted: %s", job_id, number, error)
        else:
            self._write_down(backend, job_id, number, handle)

    def _order(
        self, job_id: str, number: int, token: str, devices: tuple[str, ...], secrets: Mapping[str, str]
    ) -> Order:
        settings = self._service.settings
        environment = {
            **secrets,
            "STEEP_SERVER": settings.address,
            "STEEP_ATTEMPT": f"{job_id}/{number}",
            "STEEP_ATTEMPT_TOKEN": token,
            **({} if settings.private_urls else {PUBLIC_ONLY: "1"}),
        }
        return Order(job_id, number, self._service.run(job_id).path, devices, environment)

    def _write_down(self, backend: str, job_id: str, number: int, handle: str) -> None:
        """The handle of what was submitted. Where the attempt has ended meanwhile, what was submitted ends too."""
        try:
            self._store.attempts.provisioned(job_id, number, handle, self._service.now())
        except Conflict as late:
            log.warning("%s/%d is ended again: %s", job_id, number, late)
            self._service.backends[backend].cancel(handle, grace_seconds=0)

    def _give_up(self, job_id: str, number: int, error: SteepError) -> None:
        """End an attempt that its backend does not take. Its job goes on as after any failure, or ends if it was told to."""
        log.warning("%s/%d could not be submitted: %s", job_id, number, error)
        now = self._service.now()
        self._store.attempts.revoke(job_id, number, f"could not be started: {error}", now)
        # a full disk is no failure of the job: it goes on as often as it takes, as after a worker that was stopped by one
        code = EXIT_STOPPED if isinstance(error, OutOfSpace) else None
        ending = Ending(code, detail=str(error))
        self._store.attempts.finish(job_id, number, ending, now, self._service.settings.policy)

    # ---------------------------------------------------------------------------------------------------- mending

    def _mend(self) -> None:
        """Submit attempts again of which nobody knows whether they were."""
        for attempt in self._store.attempts.living(without_handle=True):
            if attempt.backend not in self._service.backends:
                continue
            is_unheard = attempt.worked_at is None and attempt.revoked_at is None
            if is_unheard and abs(self._service.now() - attempt.started_at) < LONGEST_SUBMIT_SECONDS:
                continue  # another replica may be starting it, whose token a new one would shut out
            log.warning("%s/%d was left without a handle; it is looked for", attempt.job_id, attempt.number)
            try:
                if is_unheard:
                    self._submit_again(attempt)
                else:
                    self._find(attempt, is_fenced=attempt.revoked_at is not None)
            except ServerUnavailable:
                raise
            except (SteepError, OSError) as error:
                log.warning("%s/%d cannot be mended now: %s", attempt.job_id, attempt.number, error)

    def _submit_again(self, attempt: Living) -> None:
        """As it was meant to be submitted. What cannot be is fenced and found, since it may have begun already."""
        job_id, number = attempt.job_id, attempt.number
        try:
            secrets = self._secrets(job_id)
        except DamagedArtifact as error:
            self._fence(attempt, error)
            return
        order = self._order(job_id, number, self._new_token(attempt), attempt.devices, secrets)
        try:
            handle = self._service.backends[attempt.backend].submit(order)
        except (SteepError, OSError) as error:
            self._fence(attempt, error)
        else:
            self._write_down(attempt.backend, job_id, number, handle)

    def _fence(self, attempt: Living, error: Exception) -> None:
        """Whatever began of it may write nothing more; its devices are kept until that is found and has ended."""
        log.warning("%s/%d cannot be submitted again: %s", attempt.job_id, attempt.number, error)
        fence(self._service, attempt.job_id, attempt.number, f"could not be started: {error}")
        self._find(attempt, is_fenced=True)

    def _new_token(self, attempt: Living) -> str:
        lease = self._service.settings.patience.lease
        return self._store.tokens.renew(attempt.job_id, attempt.number, self._service.now(), lease_seconds=lease)

    def _find(self, attempt: Living, *, is_fenced: bool) -> None:
        """Write down the handle of a worker that was heard of, or was fenced: whoever began it died before that was done.

        One that was heard of has begun, so asking for it again starts nothing. One that was fenced is ended by the watcher as
        soon as it has a handle, whether it ever began or not; until then nobody could end it. Where its run directory was
        deleted, nothing of it is there to be ended.
        """
        job_id, number = attempt.job_id, attempt.number
        run = self._service.run(job_id).path
        devices = () if is_fenced else attempt.devices  # should a fenced one only begin now, it needs none to be ended
        order = Order(job_id, number, run, devices, {"STEEP_ATTEMPT": f"{job_id}/{number}"})
        try:
            handle = self._service.backends[attempt.backend].submit(order)
        except InvalidInput as error:
            if not is_fenced or run.exists() or not run.parent.is_dir():  # no directory of runs is a disk that is away
                raise
            self._give_up(job_id, number, error)
        else:
            self._write_down(attempt.backend, job_id, number, handle)
