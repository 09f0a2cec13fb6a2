"""The loop of alerts: takes what is due out of the store's outbox and sends it. Any number of replicas do so at once.

What is taken is this replica's for `LEASE_SECONDS`; nobody writes down that it was sent before it was. So a replica that is
killed in between loses nothing: another one sends it again, under the same number. Each receiver of a job gets the job's
events in their order: what is behind one that has not arrived yet waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from steep.client.signatures import sign
from steep.server.delivering import Undelivered, next_try_at, notification_of
from steep.server.mail import compose, send
from steep.server.service import Service
from steep.server.store.outbox import Delivery
from steep.server.webhooks import open_client, post
from steep.spec.alerts import DELIVERY_HEADER, EVENT_HEADER, SIGNATURE_HEADER
from steep.spec.errors import DamagedArtifact, NotFound, ServerUnavailable

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

TRY_SECONDS = 20.0
LEASE_SECONDS = 60.0
"""Longer than a try, with the writing down of all that were sent at the same time."""
MOST = 50
"""Tries that are under way at once."""
LOOK_SECONDS = 1.0
"""How long at most until it is seen what has become due, while some are under way."""


class AlertsLoop:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._outbox = service.store.outbox
        self._slow = ThreadPoolExecutor(MOST, thread_name_prefix="alerts")
        """Where mail servers and name servers are waited for, so that the store never waits for those."""

    def turn(self) -> None:
        """Send all that is due, and what becomes due meanwhile."""
        if first := self._claim(MOST):
            asyncio.run(self._send_all(first))

    def _claim(self, limit: int) -> list[Delivery]:
        return self._outbox.claim(self._service.now(), limit=limit, try_seconds=LEASE_SECONDS)

    async def _send_all(self, first: Sequence[Delivery]) -> None:
        """Each that is done makes room for the next one. Should the store be away, those under way are still written down
        if they can be."""
        async with open_client() as client:
            under_way = {asyncio.create_task(self._try(client, each)) for each in first}
            try:
                while under_way:
                    done, under_way = await asyncio.wait(
                        under_way, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    await asyncio.gather(*done)
                    if free := MOST - len(under_way):
                        due = await asyncio.to_thread(self._claim, free)
                        under_way |= {asyncio.create_task(self._try(client, each)) for each in due}
            finally:
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _try(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await self._send(client, delivery)
        except TimeoutError:
            await self._failed(delivery, Undelivered(f"no answer within {TRY_SECONDS:.0f} s"))
        except Undelivered as error:
            await self._failed(delivery, error)
        except ServerUnavailable:
            raise  # the store's; it is tried again when it is somebody's no longer
        except Exception as error:  # nobody foresaw it, and so nobody knows that it will pass
            log.exception("%s: alert %d cannot be sent", delivery.event.job_id, delivery.id)
            await self._failed(delivery, Undelivered(f"it cannot be sent ({error})", refused=True))
        else:
            await asyncio.to_thread(self._outbox.delivered, delivery, self._service.now())

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        alert, settings = delivery.alert, self._service.settings
        notification = notification_of(delivery)
        if alert.webhook is None:
            assert alert.email is not None  # an alert has one of them
            if settings.smtp is None:
                raise Undelivered("this server sends no e-mail any more")
            message = compose(notification, alert.email, settings.smtp.sender, settings.address)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._slow, send, message, alert.email, settings.smtp)
            return
        body = notification.model_dump_json().encode()
        headers = {DELIVERY_HEADER: str(delivery.id), EVENT_HEADER: str(delivery.event.kind)}
        if alert.secret is not None:
            secret = await asyncio.to_thread(self._secret, delivery.project, alert.secret)
            headers[SIGNATURE_HEADER] = sign(body, secret, self._service.now())
        await post(client, str(alert.webhook), body, headers, private_too=settings.private_urls, lookups=self._slow)

    def _secret(self, project: str, name: str) -> str:
        """It may have been deleted since the job was taken, or come back."""
        try:
            return self._service.box.open(self._service.store.secrets.get(project, name))
        except (NotFound, DamagedArtifact) as error:
            raise Undelivered(f"the secret that signs it cannot be had: {error}") from error

    async def _failed(self, delivery: Delivery, error: Undelivered) -> None:
        now = self._service.now()
        again = next_try_at(delivery, refused=error.refused, now=now)
        what = "is given up" if again is None else f"is tried again in {again - now:.0f} s"
        log.warning("%s: alert %d of %s %s: %s", delivery.event.job_id, delivery.id, delivery.event.kind, what, error)
        await asyncio.to_thread(self._outbox.failed, delivery, str(error), again, now)
