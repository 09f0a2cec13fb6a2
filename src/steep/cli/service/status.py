"""`steep status` without a run: how the service is."""

from __future__ import annotations

from steep.spec.api.house import StatusView
from steep.spec.states import State

ORDER = tuple(str(state) for state in State)


def show_service(*, json: bool) -> None:
    """Print how the service is: its jobs by state, its devices, what should be looked after."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected

    with connected() as client:
        view, server = client.status(), client.server
    if json:
        print_json({"server": server, **view.model_dump(mode="json")})
    else:
        _print(server, view)


def _print(server: str, view: StatusView) -> None:
    from steep.cli.tables import ago, answer_console

    console = answer_console()
    console.print(f"Steep {view.version} at {server}, started {ago(view.started_at)}", soft_wrap=True)
    known = [state for state in ORDER if view.jobs.get(state)] + [state for state in view.jobs if state not in ORDER]
    jobs = ", ".join(f"{view.jobs[state]:,} {state}" for state in known) or "none yet"
    console.print(f"  jobs     {jobs}", soft_wrap=True)
    unusable = f", {view.devices_unusable} set aside" if view.devices_unusable else ""
    console.print(f"  devices  {view.devices_in_use} of {view.devices} in use{unusable}", soft_wrap=True)
    for warning in view.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
