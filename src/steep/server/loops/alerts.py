"""The loop of alerts: takes what is due out of the store's outbox and sends it. Any number of replicas do so at once.

What is taken is this replica's for `LEASE_SECONDS`; nobody writes down that it was sent before it was. So a replica that is
killed in between loses nothing: another one sends it again, under the same number. Each receiver of a job gets the job's
events in their order: what is behind one that has not arrived yet waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import httpx

from steep.client.signatures import sign
from steep.server.delivering import Undelivered, next_try_at, notification_of
from steep.server.mail import compose, send
from steep.server.service import Service
from steep.server.store.outbox import Delivery
from steep.server.webhooks import open_client, post
from steep.spec.alerts import DELIVERY_HEADER, EVENT_HEADER, SIGNATURE_HEADER
from steep.spec.errors import DamagedArtifact, NotFound

log = logging.getLogger(__name__)

TRY_SECONDS = 20.0
LEASE_SECONDS = 60.0
"""Longer than a try, with the writing down of all that were sent at the same time."""
BATCH = 20


class AlertsLoop:
    """One turn of it is `turn`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._outbox = service.store.outbox

    def turn(self) -> None:
        """Send all that is due."""
        while batch := self._outbox.claim(self._service.now(), limit=BATCH, try_seconds=LEASE_SECONDS):
            asyncio.run(self._send_all(batch))

    async def _send_all(self, batch: Sequence[Delivery]) -> None:
        """All at once; one that hangs keeps none from being written down."""
        async with open_client() as client:
            done = await asyncio.gather(*(self._try(client, each) for each in batch), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def _try(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await self._send(client, delivery)
        except TimeoutError:
            await self._failed(delivery, Undelivered(f"no answer within {TRY_SECONDS:.0f} s"))
        except Undelivered as error:
            await self._failed(delivery, error)
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
            await asyncio.to_thread(send, message, alert.email, settings.smtp)
            return
        body = notification.model_dump_json().encode()
        headers = {DELIVERY_HEADER: str(delivery.id), EVENT_HEADER: str(delivery.event.kind)}
        if alert.secret is not None:
            headers[SIGNATURE_HEADER] = sign(body, self._secret(delivery.project, alert.secret), self._service.now())
        await post(client, str(alert.webhook), body, headers, private_too=settings.private_urls)

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
