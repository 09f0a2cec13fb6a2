"""`make chaos`: faults at random moments, and whether the service has kept its promises; its table goes to docs/results.md.

    python -m benchmarks.chaos [--store sqlite|postgresql] [--faults 200] [--seed N] [--tables]

Real servers (two on PostgreSQL), real workers, a real database, a store, and users who go on meanwhile. See tests/chaos/.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import BEGIN, END, PAGE, ROOT
from tests.chaos.faults import FAULTS
from tests.chaos.run import Report, run
from tests.contract.databases import why_no_postgresql

FOUND = ROOT / "runs" / "chaos"
KINDS = ("sqlite", "postgresql")
NAMES = {"sqlite": "SQLite, one server", "postgresql": "PostgreSQL, two servers"}


def main() -> int:
    """Run, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=KINDS, help="the database; both by default")
    parser.add_argument("--faults", type=int, default=200, help="on each")
    parser.add_argument("--seed", type=int, default=17, help="of everything that is drawn")
    parser.add_argument("--keep", type=Path, help="an empty directory that everything is left in")
    parser.add_argument("--tables", action="store_true", help="write the tables of what was measured, run nothing")
    options = parser.parse_args()
    wrong = 0
    for kind in () if options.tables else (options.store,) if options.store else KINDS:
        if kind == "postgresql" and (why := why_no_postgresql()):
            print(f"not on PostgreSQL: {why}")
            continue
        wrong += len(_run(kind, options).wrong)
    write_page()
    return 1 if wrong else 0


def _run(kind: str, options: argparse.Namespace) -> Report:
    print(f"=== {NAMES[kind]}: {options.faults} faults, seed {options.seed}", flush=True)

    def tell(line: str) -> None:
        print(line, flush=True)

    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        report = run(kind, options.seed, options.faults, options.keep, tell=tell)
    else:
        with tempfile.TemporaryDirectory(prefix="steep-chaos-") as directory:
            report = run(kind, options.seed, options.faults, Path(directory), tell=tell)
    for what in report.wrong:
        print(f"WRONG: {what}")
    FOUND.mkdir(parents=True, exist_ok=True)
    values = {**vars(report), "transitions": len(report.transitions)}
    (FOUND / f"{kind}.json").write_text(json.dumps(values, indent=1))
    print(table({kind: values}))
    return report


def table(found: dict[str, dict[str, Any]]) -> str:
    """Faults by kind, and what came of them all, by database."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in _rows(found)) + "\n"


def _rows(found: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    runs = list(found.values())
    yield ["", "", *(NAMES[kind] for kind in found)]
    yield ["---", "---", *("---:" for _ in runs)]
    for kind, fault in FAULTS.items():
        yield [kind, fault.meaning, *(str(one["struck"].get(kind, 0)) for one in runs)]
    yield ["**faults**", "all together", *(f"**{sum(one['struck'].values())}**" for one in runs)]
    yield ["transitions", "that a server died before or after", *(str(one["transitions"]) for one in runs)]
    yield ["server starts", "", *(str(one["server_starts"]) for one in runs)]
    yield ["requests troubled", "lost, doubled or slow", *(str(one["troubled"]) for one in runs)]
    yield ["users' acts", "pause, resume, cancel", *(str(one["acts"]) for one in runs)]
    yield ["jobs", "ended as they should", *(_ends(one["jobs"]) for one in runs)]
    yield ["attempts", "none beside another of its job", *(str(one["attempts"]) for one in runs)]
    yield [
        "checkpoints",
        "read back, here and in the store",
        *(f"{one['checkpoints']} + {one['copies']}" for one in runs),
    ]
    yield ["minutes", "", *(f"{one['seconds'] / 60:.0f}" for one in runs)]
    yield ["**promises broken**", "see above", *(f"**{len(one['wrong'])}**" for one in runs)]


def _ends(jobs: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in jobs.items())


def write_page() -> None:
    """Put the table of the newest run on each database between its markers in docs/results.md."""
    files = {kind: FOUND / f"{kind}.json" for kind in KINDS}
    found = {kind: json.loads(file.read_text()) for kind, file in files.items() if file.exists()}
    begin, end = BEGIN.format("chaos"), END.format("chaos")
    text = PAGE.read_text()
    head, _, rest = text.partition(begin)
    body = table(found) if found else "Not measured yet.\n"
    PAGE.write_text(f"{head}{begin}\n\n{body}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    sys.exit(main())
