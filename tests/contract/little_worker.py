"""A worker without an engine: `python -m tests.contract.little_worker RUN` behaves as RUN/job.yaml says (JSON, which is YAML).

It speaks in lines of JSON on its standard output, the first of which says what it was started with.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def main() -> int:
    run = Path(sys.argv[1])
    job: dict[str, Any] = json.loads((run / "job.yaml").read_text())
    say(
        pid=os.getpid(), session=os.getsid(0), group=os.getpgid(0), directory=str(Path.cwd()), arguments=sys.argv[1:],
        input=sys.stdin.read(), environment=dict(os.environ), attempts=[path.name for path in run.glob("attempts/*")],
    )  # fmt: skip
    code: int = globals()[job.pop("behaviour")](**job)
    return code


def finish(code: int = 0, seconds: float = 0.0) -> int:
    """End by itself."""
    time.sleep(seconds)
    print("a word of warning", file=sys.stderr)
    say(done=True)
    return code


def crash() -> int:
    """End by an error of its own."""
    raise RuntimeError("the loss became NaN")


def steady() -> int:
    """Work until asked to end; then save, and end with code 3."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    say(ready=True)
    while not asked:
        time.sleep(0.01)
    say(saved=True)
    return 3


def hang() -> int:
    """Hear nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(ready=True)
    while True:
        time.sleep(60)


def family(stay: bool = True, deaf: bool = False) -> int:
    """Begin processes in all the ways in which they get out of sight; `stay` on, or end and leave them."""
    fork = os.fork()
    if fork == 0:  # no program of its own, so no mark in its environment, and a session of its own
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
        time.sleep(600)
    children = [
        fork,
        subprocess.Popen(SLEEPER).pid,
        subprocess.Popen(SLEEPER, start_new_session=True).pid,
        int(subprocess.run(["sh", "-c", 'setsid "$@" >/dev/null 2>&1 & echo $!', "sh", *SLEEPER], **_CAPTURE).stdout),
    ]
    say(children=children)
    return steady() if stay else 0


def look_around() -> int:
    """Say all that a process can see of how it was begun."""
    main_module = sys.modules["__main__"]
    assert main_module.__spec__ is not None
    signals = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    say(
        module=main_module.__spec__.name, file=main_module.__file__, path=sys.path, executable=sys.executable,
        flags=repr(sys.flags), warnings=sys.warnoptions, umask=os.umask(0o22),
        signals={int(number): repr(signal.getsignal(number)).partition(" at ")[0] for number in signals},
        blocked=sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), wakeup=signal.set_wakeup_fd(-1),
        streams=[(one.encoding, one.errors, one.line_buffering, one.write_through) for one in (sys.stdout, sys.stderr)],
        threads=len(list(Path("/proc/self/task").iterdir())), limits=Path("/proc/self/limits").read_text(),
        open=sorted(str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()),
    )  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        say(sum=pool.apply(sum, ([1, 2],)))
    return 0


def chatter(lines: int) -> int:
    """Write much."""
    sys.stdout.writelines(f"line {number:08d}\n" for number in range(lines))
    return 0


_CAPTURE: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "check": True}


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
