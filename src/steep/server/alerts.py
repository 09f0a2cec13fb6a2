"""Alerts of a job, looked at before the job is taken. They are sent in `loops/alerts.py`."""

from __future__ import annotations

from steep.server.addresses import require_public
from steep.server.mail import is_address
from steep.server.service import Service
from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec

_PRIVATE = "Give one that everybody reaches, or have the operator start the server with --private-urls."


def admit_alerts(spec: JobSpec, service: Service) -> None:
    """Refuse alerts that could not be sent, so that they are not missed when it matters.

    Raises:
        InvalidSpec: a webhook is no public URL, the project has no secret of that name, the server sends no e-mail, or none
            can be addressed so.
    """
    secrets = {view.name for view in service.store.secrets.list(spec.service.project)} if spec.service.alerts else set()
    for number, alert in enumerate(spec.service.alerts):
        field = f"service.alerts.{number}"
        if alert.webhook is not None:
            allowed = service.settings.private_urls
            require_public(str(alert.webhook), f"{field}.webhook", private_too=allowed, cure=_PRIVATE)
        elif service.settings.smtp is None:
            raise InvalidSpec(
                "this server sends no e-mail",
                where=f"{field}.email",
                cure="Use a webhook, or have the operator start the server with --smtp.",
            )
        elif not is_address(alert.email or ""):
            raise InvalidSpec(
                f"{alert.email} is no e-mail address", where=f"{field}.email", cure="Give one like ada@example.org."
            )
        if alert.secret is not None and alert.secret not in secrets:
            raise InvalidSpec(
                f"project {spec.service.project} has no secret {alert.secret}",
                where=f"{field}.secret",
                cure=f"`steep secrets set {alert.secret}` stores it.",
            )
