"""Arguments and options that several commands have."""

from __future__ import annotations

import typer

HOST = "127.0.0.1"
PORT = 8470
JobArgument = typer.Argument(metavar="JOB", help="The job's id, or its name where one job alone has it.")
JsonOption = typer.Option(False, "--json", help="Print the answer as JSON.")
YesOption = typer.Option(False, "--yes", "-y", help="Do not ask.")
ProjectOption = typer.Option(None, "--project", metavar="NAME", help="The project; by default that of the key.")
NewNameOption = typer.Option(None, "--name", metavar="NAME", help="Name of the new job; by default made from the old.")
ChangesOption = typer.Option(
    [], "--set", metavar="KEY=VALUE", help="What the new job does in another way, such as training.learning_rate=1e-5."
)
DataOption = typer.Option(
    None,
    "--data",
    metavar="DIR",
    help="The server's data directory; by default steep in the user's data directory.",
    show_default=False,
)
ColdOption = typer.Option(False, "--cold", help="Start workers as new programs: seconds slower, and less memory.")
SlotsOption = typer.Option(None, "--cpu-slots", metavar="NUMBER", help="Jobs on the processor at once.")
RootOption = typer.Option(
    [], "--root", metavar="DIR", help="Jobs may read files of this machine below it; may be given several times."
)
