"""Models in memory, a few at a time: begun when they are asked for, ended when others are or when nobody asks any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Self

from steep.compute.local.environment import VISIBLE, environment_base, with_own
from steep.server.openai.names import Model
from steep.server.openai.process import ModelProcess
from steep.server.problems import TooMany
from steep.server.service import Service
from steep.server.workersecrets import secrets_for_workers
from steep.spec.completions import Done, Piece, Write
from steep.spec.errors import SteepError

log = logging.getLogger(__name__)


@dataclass
class _Place:
    """Room for one model.

    Args:
        beginning: its process, as soon as the model is in memory.
        num_orders: in work and waiting.
        used_at: when it last had one, by the loop's clock.
    """

    beginning: asyncio.Task[ModelProcess]
    num_orders: int = 0
    used_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def is_lost(self) -> bool:
        """Whether it did not load, or its process has ended."""
        done = self.beginning
        if not done.done():
            return False
        return done.cancelled() or done.exception() is not None or not done.result().is_alive


class Pool:
    """All models that this server holds. Belongs to one event loop; use it as a context manager there.

    Args:
        service: whose models these are.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._patience = service.settings.completing
        self._places: dict[tuple[object, ...], _Place] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._tidying = asyncio.create_task(self._tidy())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        for key in list(self._places):
            self._end(key)
        await self._ended()

    async def write(self, model: Model, order: Write) -> AsyncGenerator[Piece | Done, None]:
        """Have a model carry out an order. Who stops listening gives its place to the next one.

        Raises:
            TooMany: all models are in use, or too many wait for this one.
            SteepError: it cannot be loaded, or the order cannot be carried out.
        """
        place = self._place(model)
        if place.num_orders > self._patience.waiting:
            raise TooMany("too many others wait for this model", where="model", cure="Wait a moment, and ask again.")
        place.num_orders += 1
        try:
            process = await asyncio.shield(place.beginning)
            async with contextlib.aclosing(process.write(order)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            place.num_orders -= 1
            place.used_at = asyncio.get_running_loop().time()

    def _place(self, model: Model) -> _Place:
        for key in [key for key, place in self._places.items() if place.is_lost]:
            self._end(key)
        known = self._places.get(model.key)
        if known is not None:
            return known
        if len(self._places) >= self._patience.models:
            idle = [key for key, place in self._places.items() if place.num_orders == 0]
            if not idle:
                raise TooMany(
                    f"{len(self._places)} other models are in use, and there is room for no more",
                    where="model",
                    cure="Wait until one of them is free.",
                )
            self._end(min(idle, key=lambda key: self._places[key].used_at))
        place = _Place(asyncio.create_task(self._begin(model)))
        self._places[model.key] = place
        return place

    async def _begin(self, model: Model) -> ModelProcess:
        await self._ended()  # their memory is needed
        settings = self._service.settings
        secrets = await asyncio.to_thread(secrets_for_workers, self._service, model.project)
        lent = environment_base(max(1, (os.cpu_count() or 1) // 2))
        environment = {**with_own(lent, secrets), VISIBLE: ""}
        log.info("loading %s to complete prompts", model.name)
        return await ModelProcess.begin(
            model.arguments, environment, settings.data / "logs" / "completions.log", self._patience
        )

    def _end(self, key: tuple[object, ...]) -> None:
        ending = asyncio.create_task(_end(self._places.pop(key)))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _ended(self) -> None:
        """Wait for all that are being ended. Whoever waits no longer leaves them to go on, unlike with `gather`."""
        if self._endings:
            await asyncio.wait(self._endings)

    async def _tidy(self) -> None:
        """End what nobody asks for any more."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(min(self._patience.idle_seconds / 4, 15.0))
            for key, place in list(self._places.items()):
                if place.num_orders == 0 and clock() - place.used_at > self._patience.idle_seconds:
                    self._end(key)


async def _end(place: _Place) -> None:
    """Whatever goes wrong with it, such as a full disk: the next one may begin."""
    place.beginning.cancel()
    try:
        process = await place.beginning
        await process.end()
    except (SteepError, asyncio.CancelledError):
        return  # whoever asked for it was told
    except Exception:
        log.exception("a process with a model did not begin or end as it should")
