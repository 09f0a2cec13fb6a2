"""What follows when a worker has ended: a pure function of how it ended, what was asked of it, and how it ended before.

A failure of the machine goes on from the newest valid checkpoint, after a while, so many times. What the user can mend fails
at once with the worker's own words. What fails again and again at the same step fails with a diagnosis.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from steep.spec.api.common import Problem
from steep.spec.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INVALID,
    EXIT_STOPPED,
    DamagedArtifact,
    Fenced,
    RunBusy,
    StoppedByGuard,
)
from steep.spec.states import Reason
from steep.spec.units import format_seconds

# A worker that ends by one of these did it itself; SIGKILL and the like come from outside.
_OWN_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
)

AS_ASKED: dict[Reason, Reason] = {
    Reason.PAUSE_REQUESTED: Reason.HELD_BY_USER,
    Reason.LIMIT_REACHED: Reason.HELD_BY_LIMIT,
    Reason.GUARD_STOPPED: Reason.HELD_BY_GUARD,
    Reason.DEVICES_IDLE: Reason.HELD_WHILE_IDLE,
    Reason.PREEMPT_REQUESTED: Reason.PREEMPTED,
}
"""Why a job was told to stop, and why it is queued when it has. A cancelled one is not queued again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended.

    Args:
        exit_code: of the process; negative is a signal. None: nobody knows, or it never began.
        problem: its own last word, if it left one: `title` says what, `code` which class of `spec/errors.py`.
        step: the optimizer step it was at, where known.
        detail: what the backend or the server knows of it, as a sentence.
        deadline_passed: the job's own deadline was over when it ended.
    """

    exit_code: int | None
    problem: Problem | None = None
    step: int | None = None
    detail: str = ""
    deadline_passed: bool = False

    @property
    def is_in_order(self) -> bool:
        """It saved what it had and stopped, or was complete."""
        return self.exit_code in (EXIT_DONE, EXIT_STOPPED)

    @property
    def is_own(self) -> bool:
        """The work itself failed; where the worker ran has nothing to do with it."""
        if self.exit_code is None or self._code in (RunBusy.code, Fenced.code):
            return False
        return self.exit_code == EXIT_FAILED or -self.exit_code in _OWN_SIGNALS

    @property
    def is_users(self) -> bool:
        """The user can mend it, and was told how. Without a word it is not known to be the user's."""
        return self.exit_code == EXIT_INVALID and self.problem is not None and self._code != RunBusy.code

    @property
    def is_guards(self) -> bool:
        """It forgot too much; tried again, it would stop at once, until a person says how to go on."""
        return self.exit_code == EXIT_STOPPED and self._code == StoppedByGuard.code

    @property
    def words(self) -> str:
        """What went wrong, as a clause without a full stop."""
        if self.problem is not None and self.problem.title:
            return self.problem.title.rstrip(".")
        if self.detail:
            return self.detail.rstrip(".")
        if self.exit_code is None:
            return "the worker is gone"
        if self.exit_code < 0:
            return f"the worker was ended by {_signal_name(-self.exit_code)}"
        return f"the worker ended with exit code {self.exit_code}"

    @property
    def reason(self) -> Reason:
        """Why an attempt that ended like this failed."""
        if self.is_users:
            return Reason.INVALID_INPUT
        if self._code == DamagedArtifact.code:
            return Reason.ARTIFACT_DAMAGED
        return Reason.TRAINING_FAILED if self.is_own else Reason.MACHINE_FAILED

    @property
    def _code(self) -> str:
        return self.problem.code if self.problem is not None else ""


@dataclass(frozen=True, slots=True)
class Succeed:
    """The job is complete."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The job ends, as was asked."""

    detail: str


@dataclass(frozen=True, slots=True)
class Requeue:
    """The job is queued again at once, or held: its reason says which."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The job is queued again, and begins no earlier than after a delay."""

    delay_seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The job ends."""

    reason: Reason
    detail: str


Verdict = Succeed | Cancel | Requeue | Retry | Fail


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """How patient the service is.

    Args:
        first_delay_seconds: before the first new attempt; each further one in a row waits twice as long.
        max_delay_seconds: and no longer than this.
        same_step_failures: as many failures of the work itself at one step end the job.
    """

    first_delay_seconds: float = 5.0
    max_delay_seconds: float = 600.0
    same_step_failures: int = 3

    def delay_seconds(self, in_a_row: int) -> float:
        """How long to wait after so many endings in a row that brought the job no further."""
        return min(self.first_delay_seconds * 2.0 ** min(max(in_a_row, 1) - 1, 30), self.max_delay_seconds)


@dataclass(frozen=True, slots=True)
class History:
    """What came before.

    Args:
        endings: of the job's earlier attempts, oldest first.
        asked: why the job was told to stop, if it was: a reason of `stopping`.
        max_attempts: failed attempts at most.
        policy: how patient the service is.
        asked_words: the sentence beside `asked`: who asked, or what is reached.
    """

    endings: Sequence[Ending] = ()
    asked: Reason | None = None
    max_attempts: int = 10
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    asked_words: str = ""


def decide(history: History, ending: Ending) -> Verdict:
    """What follows on an ending.

    A cancel has the last word, even when the work was complete before it arrived: whoever cancels does not want to be told of
    a success. All other requests yield to what cannot go on anyway.
    """
    if history.asked is Reason.CANCEL_REQUESTED:
        complete = "; the work was complete by then" if ending.exit_code == EXIT_DONE else ""
        return Cancel(f"{history.asked_words or 'cancelled'}{complete}")
    if ending.exit_code == EXIT_DONE:
        return Succeed()
    if ending.is_users:
        return Fail(Reason.INVALID_INPUT, ending.words)
    asked = None if history.asked is None else AS_ASKED[history.asked]
    if ending.is_own:
        hopeless = _hopeless(history, ending)
        if hopeless is not None:
            return hopeless
    if asked is not None:
        return Requeue(asked, _asked_words(history, ending))
    if ending.is_in_order:
        return _yielded(history, ending)
    return _hopeless(history, ending) or _retry(history, ending)


def _yielded(history: History, ending: Ending) -> Verdict:
    """It stopped in good order, and nobody asked: its guard, its deadline, a full disk, or a machine that is taken away."""
    if ending.is_guards:
        return Requeue(Reason.HELD_BY_GUARD, ending.words)
    if ending.deadline_passed:
        return Requeue(Reason.HELD_BY_LIMIT, f"the job's deadline has passed: {ending.words}")
    return _retry(history, ending)


def _hopeless(history: History, ending: Ending) -> Fail | None:
    """Why it is not tried again, if so."""
    failed = [each for each in history.endings if not each.is_in_order]
    if ending.is_own:
        same = 1 + sum(each.is_own and each.step == ending.step for each in failed)
        if same >= history.policy.same_step_failures:
            return Fail(Reason.REPEATED_FAILURE, f"{_at_step(ending)} {_times(same)}")
    if len(failed) + 1 >= history.max_attempts:
        return Fail(ending.reason, f"{_at_step(ending)}; {len(failed) + 1} attempts failed, and no more are allowed")
    return None


def _retry(history: History, ending: Ending) -> Retry:
    delay = history.policy.delay_seconds(_in_a_row(history.endings, ending))
    return Retry(delay, f"{_at_step(ending)}; goes on in {format_seconds(delay)}")


def _in_a_row(endings: Sequence[Ending], ending: Ending) -> int:
    """How many endings, the last ones, brought the job no further than it was."""
    count, step = 1, ending.step
    for earlier in reversed(endings):
        if (earlier.step or 0) < (step or 0):
            break
        count, step = count + 1, earlier.step
    return count


def _asked_words(history: History, ending: Ending) -> str:
    """Who asked or why, then how it ended."""
    how = ending.words if ending.is_in_order else f"{_at_step(ending)}, while it was stopping"
    return f"{history.asked_words}: {how}" if history.asked_words else how


def _at_step(ending: Ending) -> str:
    if ending.step is None or re.search(r"\bstep \d", ending.words):
        return ending.words
    return f"{ending.words} at step {ending.step}"


def _times(count: int) -> str:
    words = {1: "once", 2: "twice", 3: "three times", 4: "four times", 5: "five times"}
    return words.get(count, f"{count} times")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def step_in(problem: Problem) -> int | None:
    """The step that a worker's word names, as in `step 812`: where it went wrong, or what it says."""
    found = re.search(r"\bstep (\d[\d,]*)", f"{problem.field or ''} {problem.detail} {problem.title}")
    return None if found is None else int(found.group(1).replace(",", ""))
