"""`make bench`: Steep beside its peers, measured in turns, as tables in docs/benchmarks.md.

Every measurement is a process of its own; the peers have an environment of their own, `.venv-peers`. What was measured is
kept in `runs/bench/measurements.json`, so that rows can be measured one at a time.

    python benchmarks/bench.py [--only ROW] [--repeats N] [--threads N] [--quick] [--json PATH] [--list]
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from comparison import material, plan, runner, tables
from comparison.peers import compile_bytecode, make_environment
from comparison.rows import Measurement, Row

PAGE = material.ROOT / "docs" / "benchmarks.md"
KEPT = material.PLACE / "measurements.json"
THREADS = 2


def main() -> int:
    """Measure what was asked for and write the tables."""
    options = _options()
    rows = plan.rows(plan.QUICK if options.quick else plan.FULL)
    chosen = [row for row in rows if options.only in row.name]
    if options.list:
        for row in chosen:
            print(f"{row.name:16} {row.title}")
        return 0
    kept = [] if options.quick else runner.load(KEPT)
    for interpreter in (Path(sys.executable), make_environment()):
        compile_bytecode(interpreter)
    for row in chosen:
        print(f"=== {row.name}: {row.title}", flush=True)
        found = list(runner.in_turns(row, options.repeats, threads=options.threads, tell=tell))
        kept = [one for one in kept if one.row != row.name] + found
        print("\n" + tables.tables(row, kept), flush=True)
        if not options.quick:
            runner.save(KEPT, kept)
            write_page(row, kept, command(row, options.repeats, options.threads), options.threads)
    if options.json:
        runner.save(options.json, [one for one in kept if any(one.row == row.name for row in chosen)])
    return 0


def tell(found: Measurement) -> None:
    """One line for each measurement."""
    numbers = ", ".join(f"{name} {tables.number(value)}" for name, value in found.values.items())
    print(f"    {found.side} {found.repeat + 1}: {numbers}", flush=True)


def command(row: Row, repeats: int, threads: int) -> str:
    """The command that measures a row again."""
    other = "" if threads == THREADS else f" --threads {threads}"
    return f"python benchmarks/bench.py --only {row.name} --repeats {row.repeats or repeats}{other}"


def write_page(row: Row, measurements: list[Measurement], made_by: str, threads: int) -> None:
    """Put a row's tables between its markers in docs/benchmarks.md."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Benchmarks\n"
    body = f"{row.title}.\n\n{tables.tables(row, measurements)}\n`{made_by}`; {setting(threads)}"
    PAGE.write_text(tables.put_between(text, row.name, body), encoding="utf-8")


def setting(threads: int) -> str:
    """What the numbers depend on beside the code."""
    return f"{threads} thread{'s' if threads > 1 else ''} of {processor()}, torch {version('torch')}, text of {material.describe()}."


def processor() -> str:
    """The processor's own name for itself."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each side")
    parser.add_argument("--threads", type=int, default=THREADS, help="of each side")
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it works; writes no page")
    parser.add_argument("--json", type=Path, help="write the measurements of the chosen rows there")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
