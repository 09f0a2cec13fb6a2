"""Which attempt of a service this process is, if it is one."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from steep.spec.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a job.

    Args:
        job: id of the job.
        number: of the attempt; a later one has a higher number.
        server: address to report to; None reports to nobody.
        token: opens this attempt's reports and nothing else.
    """

    job: str
    number: int
    server: str | None = None
    token: str | None = field(default=None, repr=False)


def take_attempt(environment: MutableMapping[str, str]) -> Attempt | None:
    """Read `STEEP_ATTEMPT` (`job/number`), `STEEP_SERVER` and `STEEP_ATTEMPT_TOKEN`; None without the first.

    The token is taken out of the environment: no process that this one starts needs it.

    Raises:
        InvalidInput: STEEP_ATTEMPT is not a job and a number.
    """
    token = environment.pop("STEEP_ATTEMPT_TOKEN", None)
    name = environment.get("STEEP_ATTEMPT")
    if name is None:
        return None
    job, separator, number = name.rpartition("/")
    if not (separator and job and number.isdecimal() and int(number) > 0):
        raise InvalidInput(f"{name!r} is not an attempt", where="STEEP_ATTEMPT", cure="Write it as job/number.")
    return Attempt(job, int(number), environment.get("STEEP_SERVER"), token)
