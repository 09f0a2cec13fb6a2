"""A process that holds one model, as the server sees it: begun, asked, told to forget, ended. It ends with the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from steep.artifacts.files import make_directory
from steep.server.settings import Completing
from steep.spec.completions import SAID, Done, Forget, Piece, Ready, Refused, Said, Write
from steep.spec.errors import ServerUnavailable, SteepError, error_class

log = logging.getLogger(__name__)

LONGEST_LINE_BYTES = 64 << 20  # scores of a long prompt are said at once
_KILL_SECONDS = 5.0


class ModelProcess:
    """A model in a process of its own. Belongs to one event loop.

    Args:
        process: that was started, with pipes to it and from it.
        patience: how long is waited for it.
    """

    def __init__(self, process: asyncio.subprocess.Process, patience: Completing) -> None:
        self._process = process
        self._patience = patience
        self._numbers = itertools.count(1)
        self._listeners: dict[int, asyncio.Queue[Said]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._heard_at = 0.0

    @classmethod
    async def begin(
        cls, arguments: tuple[str, ...], environment: Mapping[str, str], log_file: Path, patience: Completing
    ) -> ModelProcess:
        """Start a process, and wait until its model is in memory.

        Args:
            arguments: which model, see `worker/completions.py`.
            environment: its variables.
            log_file: where what it prints is added.
            patience: how long is waited for it.

        Raises:
            SteepError: the model cannot be loaded, with the reason.
            ServerUnavailable: it took too long, or the process ended.
        """
        make_directory(log_file.parent)
        with open(log_file, "ab") as printed:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "steep.worker.completions", *arguments, env=dict(environment), limit=LONGEST_LINE_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=printed, start_new_session=True,
            )  # fmt: skip
        begun = cls(process, patience)
        try:
            async with asyncio.timeout(patience.begin_seconds):
                first = await begun._next()
            if isinstance(first, Refused):
                raise _error(first.model_copy(update={"where": "model"}))  # where it lies is nobody's business
            if not isinstance(first, Ready):
                raise _ended()
        except BaseException as error:
            await begun.end()
            if isinstance(error, TimeoutError):
                raise ServerUnavailable("the model takes too long to load", where="model") from error
            raise
        begun._listening = asyncio.create_task(begun._listen())
        return begun

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.returncode is None and self._listening is not None and not self._listening.done()

    async def write(self, order: Write) -> AsyncGenerator[Piece | Done, None]:
        """Have an order carried out; its number is given here. Who stops listening has it forgotten.

        Raises:
            SteepError: the order cannot be carried out, with the reason.
            ServerUnavailable: the process ended, or said nothing for too long.
        """
        number = next(self._numbers)
        heard: asyncio.Queue[Said] = asyncio.Queue()
        self._listeners[number] = heard
        is_over = False
        try:
            await self._tell(order.model_copy(update={"order": number}))
            while not is_over:
                said = await self._hear(heard)
                is_over = not isinstance(said, Piece)
                if isinstance(said, Refused):
                    raise _error(said)
                assert not isinstance(said, Ready)
                yield said
        finally:
            del self._listeners[number]
            if not is_over and self.is_alive:
                await self._tell(Forget(order=number))

    async def end(self) -> None:
        """End the process; nothing is left to be done there."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.returncode is None:
            try:
                async with asyncio.timeout(_KILL_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._kill()
                await self._process.wait()
        if self._listening is not None:
            await self._listening

    async def _hear(self, heard: asyncio.Queue[Said]) -> Said:
        """What is said next of an order. It may have to wait for others, so that only a process that says nothing at all is ended."""
        clock, begun = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
        while True:
            left = max(self._heard_at, begun) + self._patience.silence_seconds - clock()
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    return await heard.get()
            except TimeoutError:
                if max(self._heard_at, begun) + self._patience.silence_seconds > clock():
                    continue
            log.warning("process %s with a model says nothing and is ended", self._process.pid)
            self._kill()
            raise ServerUnavailable("the model says nothing any more", where="model", cure="Try again.")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _tell(self, message: Write | Forget) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message.model_dump_json().encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise _ended() from error

    async def _listen(self) -> None:
        """Hand on what is said, until nothing more is; then all who wait are told so."""
        try:
            while (said := await self._next()) is not None:
                self._heard_at = asyncio.get_running_loop().time()
                order = getattr(said, "order", None)
                if order in self._listeners:
                    self._listeners[order].put_nowait(said)
        except ValueError as error:  # no message of ours, or one without an end
            log.error(
                "process %s with a model says what nobody understands, and is ended: %s", self._process.pid, error
            )
            self._kill()
        for heard in self._listeners.values():
            heard.put_nowait(_refused(_ended()))

    async def _next(self) -> Said | None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return SAID.validate_json(line) if line.endswith(b"\n") else None


def _ended() -> ServerUnavailable:
    return ServerUnavailable(
        "the process with the model has ended", where="model", cure="Try again; logs/completions.log may say why."
    )


def _refused(error: SteepError) -> Refused:
    return Refused(code=error.code, what=error.what, where=error.where, cure=error.cure)


def _error(said: Refused) -> SteepError:
    kind = error_class(said.code) or SteepError
    return kind(said.what, where=said.where, cure=said.cure)
