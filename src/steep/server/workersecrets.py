"""Which of a project's secrets its workers get, as variables of their environment: those with a name that the engine knows."""

from __future__ import annotations

from steep.server.service import Service
from steep.spec.errors import DamagedArtifact

FOR_WORKERS = frozenset(
    {
        "HF_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "WANDB_API_KEY",
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_USERNAME",
    }
)
"""No other name becomes a variable: some, such as LD_PRELOAD, would let whoever sets a secret run code of his own."""


def secrets_for_workers(service: Service, project: str) -> dict[str, str]:
    """The variables.

    Raises:
        DamagedArtifact: a secret was encrypted with another key.
    """
    names = [view.name for view in service.store.secrets.list(project) if view.name in FOR_WORKERS]
    return {name: _open(service, project, name) for name in names}


def _open(service: Service, project: str, name: str) -> str:
    try:
        return service.box.open(service.store.secrets.get(project, name))
    except DamagedArtifact as error:
        what = f"project {project}'s secret {name} was encrypted with another key"
        cure = f"Restore that key, or `steep secrets set {name} --project {project}`."
        raise DamagedArtifact(what, where=error.where, cure=cure) from error
