"""How a server is set up: where its data lies, where it listens, what it may read, how patient it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steep.server.failure import FailurePolicy
from steep.server.limits import Prices
from steep.server.mail import MailServer

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits for what, in seconds.

    Args:
        lease: a worker may be silent for this long before it is called unreachable.
        unreachable: it may be unreachable for this long before it is fenced, and ended where that is possible.
        cancel: to save and end, when the job is cancelled; then its process group is ended.
        stop: the same, when the job is to go on later.
        loop: a loop's lease; when a replica dies, another one takes over after this time.
        look: workers are looked at this often.
    """

    lease: float = 60.0
    unreachable: float = 900.0
    cancel: float = 60.0
    stop: float = 600.0
    loop: float = 5.0
    look: float = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request, or one client, may ask for.

    Args:
        body_bytes: of a request that is no upload.
        upload_bytes: of a file.
        requests_per_second: of one key, over a while.
        burst_requests: of one key, at once.
        failures_per_minute: requests with a wrong key, of one address.
        streams: of events, that are open at the same time.
        silence_seconds: a client may pause for this long in the middle of a request.
    """

    body_bytes: int = 8 << 20
    upload_bytes: int = 64 * GIB
    requests_per_second: float = 100.0
    burst_requests: int = 400
    failures_per_minute: int = 60
    streams: int = 500
    silence_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """How checkpoints are read back.

    Args:
        every_seconds: each of them this often.
        settle_seconds: a new one no earlier than this after it was saved: many are deleted again by then.
        bytes_per_second: over all of them, so that those who train have the disk.
    """

    every_seconds: float = 7 * 86_400.0
    settle_seconds: float = 600.0
    bytes_per_second: float = 50e6


@dataclass(frozen=True, slots=True)
class Completing:
    """How models are held that complete prompts, see server/openai/pool.py.

    Args:
        models: in memory at the same time.
        waiting: requests for one of them, beside that in work.
        idle_seconds: one that nobody asked for this long is let go.
        begin_seconds: it may take this long to load.
        silence_seconds: it may say nothing for this long while it works.
    """

    models: int = 2
    waiting: int = 8
    idle_seconds: float = 600.0
    begin_seconds: float = 600.0
    silence_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that whoever starts a server decides.

    Args:
        data: the data directory: `steep.db`, `runs/<job id>/`, `files/<file id>/`, `secrets.key`, `logs/`.
        database: URL of the database; by default SQLite in the data directory.
        host: address to listen on.
        port: to listen on.
        public_address: where workers and people reach this server, when that is not the host and the port.
        roots: directories below which jobs may name files of this machine; none: jobs read uploads and remote sources only.
        private_urls: whether sources and webhooks may lie at addresses that are not public.
        trust_remote_code: whether jobs may run code that comes with a model.
        new_secrets_key: whether the key of secrets may be another one than it was, which leaves those that are stored closed.
        cpu_slots: of this machine, see `LocalBackend`.
        warm: whether workers are forked from a warm process.
        artifacts: where copies of all jobs' checkpoints go, `s3://bucket/prefix` or a directory; None: only where a job says.
        smtp: who takes e-mail; None: alerts go by webhooks alone.
        prices: of GPUs.
        patience: how long is waited for what.
        policy: how patient jobs are with failures.
        bounds: what a client may ask for.
        completing: how models are held that complete prompts.
        scrub: how checkpoints are read back.
    """

    data: Path
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 8470
    public_address: str | None = None
    roots: tuple[Path, ...] = ()
    private_urls: bool = False
    trust_remote_code: bool = False
    new_secrets_key: bool = False
    cpu_slots: int | None = None
    warm: bool = True
    artifacts: str | None = None
    smtp: MailServer | None = None
    prices: Prices = field(default_factory=Prices)
    patience: Patience = field(default_factory=Patience)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    bounds: Bounds = field(default_factory=Bounds)
    completing: Completing = field(default_factory=Completing)
    scrub: Scrubbing = field(default_factory=Scrubbing)

    @property
    def database_url(self) -> str:
        """Of the database that is used."""
        return self.database or f"sqlite:///{self.data / 'steep.db'}"

    @property
    def address(self) -> str:
        """Where workers and people reach this server."""
        if self.public_address is not None:
            return self.public_address.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host and host[0] != "[" else f"http://{host}:{self.port}"

    def run_directory(self, job_id: str) -> Path:
        """Where a job's run lies."""
        return self.data / "runs" / job_id

    def file_directory(self, file_id: str) -> Path:
        """Where the bytes of an uploaded file lie, under the file's own name."""
        return self.data / "files" / file_id
