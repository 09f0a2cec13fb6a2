"""The warm process: everything that a worker imports is imported, nothing has run, and it forks when it is asked to.

Why not the standard library's `multiprocessing.forkserver`: it starts functions of a parent that waits for them, their exit
codes go to that parent alone, and its children end badly when it does. Here a worker must outlive whoever asked for it, with
its exit code, so what is forked is the worker's keeper (`keeper.py`). What is left is a loop of a page.

It is reached over a pair of sockets that only the server and this process hold. So there is no file that others could reach,
no path that could be too long, and the end of the server, however it comes, is the end of the connection and of this process.

A forked worker is to be the same as a new one. It is forked while there is one thread and no use of CUDA (`hazard`), its
variables of the environment are those at the imports but for such as are read late (`environment.py`), and it then does what
`python -m` does. Linux only: elsewhere system libraries do not bear a fork without a new program.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import runpy
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path

from steep.compute.local.keeper import keep
from steep.compute.local.launch import Answer, Launch
from steep.compute.local.processes import call_oneself
from steep.compute.local.records import Handle

LONGEST_LINE_BYTES = 1 << 20
_LOOK_SECONDS = 5.0


def main() -> None:
    """Import, tell that this is done, and serve until the server is gone. Returns in workers when their work is done."""
    parser = argparse.ArgumentParser(description="Fork workers for a server. Started by it, not by people.")
    parser.add_argument("descriptor", type=int, help="of the connection")
    parser.add_argument("preload", help="a function, as module:name, that imports what workers need")
    options = parser.parse_args()
    call_oneself("steep-warm")
    module, _, name = options.preload.partition(":")
    getattr(importlib.import_module(module), name)()
    gc.collect()
    gc.freeze()  # the collector does not touch, and so not copy, what all workers share
    connection = socket.socket(fileno=options.descriptor)
    connection.sendall(Answer(what=hazard()).line())
    launch = serve(connection)
    if launch is not None:
        work(launch)


def serve(connection: socket.socket) -> Launch | None:
    """Fork a keeper for each order that comes. Returns the order in the worker's process, and None when nobody is left to ask."""
    parent = os.getppid()
    waiting = b""
    while os.getppid() == parent:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # keepers that have ended
                pass
        if not select.select([connection], [], [], _LOOK_SECONDS)[0]:
            continue
        received = connection.recv(1 << 16)
        if not received:
            return None
        waiting += received
        if len(waiting) > LONGEST_LINE_BYTES:
            raise ValueError("an order is too long")
        line, ended, rest = waiting.partition(b"\n")
        if not ended:
            continue
        waiting = rest
        launch = Launch.read(line)
        reading, writing = os.pipe()
        if os.fork() == 0:
            connection.close()
            os.close(reading)
            if keep(launch, writing):
                return launch
        os.close(writing)
        with open(reading, "rb") as answer:
            said = answer.readline() or Answer("SteepError", "the keeper of the worker ended at once").line()
        with suppress(BrokenPipeError):  # the server has just gone; there is nothing more to come
            connection.sendall(said)
    return None


def work(launch: Launch) -> None:
    """Become the worker: `python -P -m PROGRAM RUN` in all but the start of the interpreter."""
    os.environ.clear()
    os.environ.update(launch.environment)
    sys.argv = [launch.program, str(Handle.parse(launch.handle).run_directory)]
    runpy.run_module(launch.program, run_name="__main__", alter_sys=True)


def hazard() -> str:
    """Why a fork of this process would not be the same as a new one; empty when it would be."""
    child = os.fork()  # libraries that bear a fork end their threads before it; those that remain would be missed
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    if len(threads) > 1:
        return f"importing has started threads: {', '.join(sorted(threads))}"
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if str(link.readlink()).startswith("/dev/nvidia-uvm"):
                return "importing has begun to use CUDA"
    return ""


if __name__ == "__main__":
    main()
