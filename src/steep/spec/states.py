"""States of jobs and attempts, the reasons for them, and the one table of transitions between them.

            +--------------------------- again: pause, preemption, a failure of the machine ---------------------+
            v                                                                                                     |
         queued ---> provisioning ---> running <---> unreachable       stopping (from provisioning, running, unreachable)
            |             |               |                |               |
            +-------------+---------------+----------------+---------------+---> succeeded | failed | cancelled

A job goes through all of them. An attempt begins in provisioning and is never queued: what runs again is a new attempt.
Terminal states absorb: nothing leaves them, whatever arrives late.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class State(StrEnum):
    """Where a job or an attempt is."""

    QUEUED = "queued"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    UNREACHABLE = "unreachable"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Nothing follows."""
        return self in TERMINAL


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
HOLDING = frozenset({State.PROVISIONING, State.RUNNING, State.UNREACHABLE, State.STOPPING})


class Reason(StrEnum):
    """Why a job or an attempt is in its state. Closed: programs may rely on it; the sentence beside it is for people."""

    # queued
    SUBMITTED = "submitted"
    WAITING_FOR_DEVICES = "waiting_for_devices"
    WAITING_FOR_QUOTA = "waiting_for_quota"
    HELD_BY_USER = "held_by_user"
    HELD_BY_LIMIT = "held_by_limit"
    HELD_BY_GUARD = "held_by_guard"
    HELD_WHILE_IDLE = "held_while_idle"
    BACKING_OFF = "backing_off"
    PREEMPTED = "preempted"
    RESUMED = "resumed"
    # provisioning
    STARTING = "starting"
    # running
    WORKING = "working"
    # unreachable
    LEASE_EXPIRED = "lease_expired"
    BACKEND_SILENT = "backend_silent"
    # stopping
    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    PREEMPT_REQUESTED = "preempt_requested"
    LIMIT_REACHED = "limit_reached"
    GUARD_STOPPED = "guard_stopped"
    DEVICES_IDLE = "devices_idle"
    # terminal
    COMPLETED = "completed"
    CANCELLED_BY_USER = "cancelled_by_user"
    INVALID_INPUT = "invalid_input"
    TRAINING_FAILED = "training_failed"
    ARTIFACT_DAMAGED = "artifact_damaged"
    MACHINE_FAILED = "machine_failed"
    REPEATED_FAILURE = "repeated_failure"
    STOPPED_RESUMABLE = "stopped_resumable"

    @property
    def is_hold(self) -> bool:
        """A queued job with it is paused: it waits for a person, not for devices."""
        return self in HOLDS


HOLDS = frozenset({Reason.HELD_BY_USER, Reason.HELD_BY_LIMIT, Reason.HELD_BY_GUARD, Reason.HELD_WHILE_IDLE})

REASONS: dict[State, frozenset[Reason]] = {
    State.QUEUED: HOLDS
    | {
        Reason.SUBMITTED,
        Reason.WAITING_FOR_DEVICES,
        Reason.WAITING_FOR_QUOTA,
        Reason.BACKING_OFF,
        Reason.PREEMPTED,
        Reason.RESUMED,
    },
    State.PROVISIONING: frozenset({Reason.STARTING}),
    State.RUNNING: frozenset({Reason.WORKING}),
    State.UNREACHABLE: frozenset({Reason.LEASE_EXPIRED, Reason.BACKEND_SILENT}),
    State.STOPPING: frozenset(
        {
            Reason.CANCEL_REQUESTED,
            Reason.PAUSE_REQUESTED,
            Reason.PREEMPT_REQUESTED,
            Reason.LIMIT_REACHED,
            Reason.GUARD_STOPPED,
            Reason.DEVICES_IDLE,
        }
    ),
    State.SUCCEEDED: frozenset({Reason.COMPLETED}),
    State.FAILED: frozenset(
        {
            Reason.INVALID_INPUT,
            Reason.TRAINING_FAILED,
            Reason.ARTIFACT_DAMAGED,
            Reason.MACHINE_FAILED,
            Reason.REPEATED_FAILURE,
        }
    ),
    State.CANCELLED: frozenset({Reason.CANCELLED_BY_USER, Reason.STOPPED_RESUMABLE}),
}
"""The reasons that belong to each state. `stopped_resumable` ends an attempt that yielded; its job is queued again."""

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.QUEUED, State.PROVISIONING, State.FAILED, State.CANCELLED}),
    State.PROVISIONING: HOLDING - {State.PROVISIONING} | TERMINAL | {State.QUEUED},
    State.RUNNING: frozenset({State.UNREACHABLE, State.STOPPING, State.QUEUED}) | TERMINAL,
    State.UNREACHABLE: frozenset({State.RUNNING, State.STOPPING, State.QUEUED}) | TERMINAL,
    State.STOPPING: frozenset({State.STOPPING, State.QUEUED}) | TERMINAL,
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""From a state to those that may follow. Queued to queued changes the reason: a hold, a release, another wait.
Stopping to stopping does too: a cancel overrides a pause."""


class IllegalTransition(Exception):
    """The table does not know this transition. A bug in whoever asked for it, or something that arrives too late."""


class Standing(BaseModel):
    """A state with its reason: why a job is where it is, in a word for programs and in a sentence for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: State
    reason: Reason
    detail: str = Field("", description="A sentence: 'waiting for 2 x H100 in eu; 3 jobs ahead'.")
    since: float = Field(description="Seconds since the epoch at which the state began; a new reason alone keeps it.")

    @property
    def is_terminal(self) -> bool:
        """Nothing follows."""
        return self.state.is_terminal

    @property
    def is_paused(self) -> bool:
        """It is queued and held until a person lets it go on."""
        return self.state is State.QUEUED and self.reason.is_hold


def advance(standing: Standing, to: State, reason: Reason, detail: str, now: float) -> Standing:
    """The standing after a transition.

    Raises:
        IllegalTransition: the table does not allow it, or the reason is not one of that state.
    """
    if to not in TRANSITIONS[standing.state]:
        raise IllegalTransition(f"{standing.state} is not followed by {to}")
    if reason not in REASONS[to]:
        raise IllegalTransition(f"{reason} is no reason to be {to}")
    since = standing.since if to is standing.state else now
    return Standing(state=to, reason=reason, detail=detail, since=since)


def begin(state: State, reason: Reason, detail: str, now: float) -> Standing:
    """The first standing: of a job in `queued`, of an attempt in `provisioning`.

    Raises:
        IllegalTransition: nothing begins in that state, or the reason is not one of it.
    """
    if state not in (State.QUEUED, State.PROVISIONING) or reason not in REASONS[state]:
        raise IllegalTransition(f"nothing begins as {state} because of {reason}")
    return Standing(state=state, reason=reason, detail=detail, since=now)
