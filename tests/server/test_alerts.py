"""Alerts: what real receivers get, in which order, how often, and after whatever goes wrong on the way."""

from __future__ import annotations

import datetime
import ipaddress
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.receiving import mail_server, receiving
from tests.server.serving import free_port, serving, wait_for

from steep import verify_signature
from steep.client.signatures import sign
from steep.server.alerts import admit_alerts
from steep.server.delivering import REFUSED_SECONDS, SILENT_SECONDS
from steep.server.loops.alerts import LEASE_SECONDS, AlertsLoop
from steep.server.mail import MailServer
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.store import Store
from steep.spec.errors import InvalidInput, InvalidSpec
from steep.spec.events import EventKind
from steep.spec.job import JobSpec
from steep.spec.states import Reason

SECRET = "a secret that both sides know"


class Place:
    """A service without a web server, jobs with alerts, and a clock that can be moved."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self.late = 0.0
        self.settings = ServerSettings(data=data, **{"private_urls": True, **settings})
        store = Store.open(self.settings.database_url)
        self.service = Service(
            self.settings, store, {}, SecretBox.at(data / "secrets.key"), lambda: time.time() + self.late
        )
        self.store = store
        store.secrets.put("default", "HOOK", self.service.box.lock(SECRET), time.time())

    def submit(self, *alerts: dict[str, Any], name: str = "handbook") -> str:
        spec = self.spec(*alerts, name=name)
        admit_alerts(spec, self.service)
        return self.store.jobs.submit(spec, self.service.now())[0].id

    def spec(self, *alerts: dict[str, Any], name: str = "handbook") -> JobSpec:
        values = {"name": name, "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": {"alerts": alerts}}
        return JobSpec.model_validate(values)

    def cancel(self, job_id: str) -> None:
        self.store.jobs.request_stop(job_id, Reason.CANCEL_REQUESTED, "enough", self.service.now())

    def turn(self, *, after: float = 0.0) -> None:
        self.late += after
        AlertsLoop(self.service).turn()

    def failures(self, job_id: str) -> list[str]:
        events = self.store.events.after(job_id=job_id, kinds=[EventKind.ALERT_FAILED])
        return [event.message for event in events]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.service.close()


def hook(url: str, *on: str, secret: str | None = "HOOK") -> dict[str, Any]:
    return {"webhook": url, "secret": secret, "on": on or ["created", "queued", "cancelled"]}


# ------------------------------------------------------------------------------------------------------------ webhooks


def test_a_receiver_gets_exactly_the_event_signed(place: Place) -> None:
    with receiving() as receiver:
        job = place.submit(hook(receiver.url, "cancelled"))
        place.cancel(job)
        place.turn()
        place.turn()
    (got,) = receiver.got
    (event,) = place.store.events.after(job_id=job, kinds=[EventKind.CANCELLED])
    assert json.loads(got.body) == {
        "id": 1, "event": event.model_dump(mode="json"), "job_name": "handbook", "project": "default",
    }  # fmt: skip
    assert got.path == "/hook?room=7"
    signature = got.headers.pop("Steep-Signature")
    moment = int(signature.split(",")[0].removeprefix("t="))
    assert abs(moment - time.time()) < 10
    agent = got.headers.pop("User-Agent")
    assert agent.startswith("Steep/")
    assert got.headers == {
        "Host": f"127.0.0.1:{receiver.port}", "Accept": "*/*", "Accept-Encoding": got.headers["Accept-Encoding"],
        "Connection": "keep-alive", "Content-Type": "application/json", "Content-Length": str(len(got.body)),
        "Steep-Delivery": "1", "Steep-Event": "cancelled",
    }  # fmt: skip
    assert verify_signature(got.body, signature, SECRET)
    assert not verify_signature(got.body + b" ", signature, SECRET)
    assert not verify_signature(got.body, signature, "another secret")
    assert place.store.outbox.waiting() == 0


def test_a_signature_holds_for_its_body_and_its_time() -> None:
    header = sign(b"{}", SECRET, 1000.9)
    assert header == "t=1000,v1=3d2c09e32edbd1bad5b9ee962c617ffe04044ac52145ac60e88df3231e87026e"
    assert verify_signature(b"{}", header, SECRET, now=1300.0)
    assert not verify_signature(b"{}", header, SECRET, now=1301.0)
    assert not verify_signature(b"{}", header, SECRET, now=699.0)
    assert verify_signature(b"{}", header.replace("v1=", "v1=old,v1="), SECRET, now=1000.0)
    for wrong in (
        None,
        "",
        "t=1000",
        header.replace("t=1000", "t=1001"),
        f"{header},t=1000",
        "t=\u0661,v1=\u0661",
        "v1",
    ):
        assert not verify_signature(b"{}", wrong, SECRET, now=1000.0)


def test_what_did_not_arrive_comes_again_and_what_is_behind_it_waits(place: Place) -> None:
    with receiving(500, 503) as receiver, receiving() as other:
        job = place.submit(hook(receiver.url), hook(other.url))
        place.cancel(job)
        place.turn()
        assert receiver.kinds == ["created"]
        assert other.kinds == ["created", "queued", "cancelled"]  # nobody waits for another's receiver
        place.turn(after=4.0)
        assert receiver.kinds == ["created"]
        place.turn(after=2.0)
        place.turn(after=9.0)
        assert receiver.kinds == ["created", "created"]
        place.turn(after=2.0)
    assert receiver.kinds == ["created", "created", "created", "queued", "cancelled"]
    assert len({got.delivery for got in receiver.got}) == 3
    assert len({got.body for got in receiver.got}) == 3
    assert len({got.headers["Steep-Signature"] for got in receiver.got[:3]}) == 3  # each try is signed anew
    ids = [got.told.event.id for got in receiver.got]
    assert ids == sorted(ids)


def test_a_receiver_that_hangs_holds_up_no_other(place: Place) -> None:
    with receiving(holds=True) as hanging, receiving() as other:
        place.submit(hook(hanging.url, "created"))
        turn = threading.Thread(target=place.turn)
        turn.start()
        assert hanging.arrived.wait(20)
        place.submit(hook(other.url, "created"))  # when the turn has begun
        wait_for(lambda: other.kinds == ["created"], 5)
        assert turn.is_alive()
        hanging.go_on.set()
        turn.join()
    assert place.store.outbox.waiting() == 0


def test_a_receiver_is_not_told_that_it_could_not_be_told(place: Place) -> None:
    with receiving() as one, receiving() as other, receiving() as third:
        one.answers, other.answers = [404] * 1000, [404] * 1000
        job = place.submit(
            hook(one.url, "created", "alert_failed"),
            hook(other.url, "alert_failed"),
            hook(third.url, "alert_failed"),
        )
        for _ in range(200):
            place.turn(after=60.0)
        assert place.store.outbox.waiting() == 0
        assert set(one.kinds) == {"created"}
        assert set(other.kinds) == {"alert_failed"}
        assert third.kinds == ["alert_failed", "alert_failed"]
        told_of_one, told_of_other = place.failures(job)
        assert "could not be told of created" in told_of_one
        assert "could not be told of alert_failed" in told_of_other


def test_a_receiver_may_be_away(place: Place) -> None:
    port = free_port()
    job = place.submit(hook(f"http://127.0.0.1:{port}/hook", "created"))
    place.turn()
    place.turn(after=6.0)
    assert place.store.outbox.waiting() == 1
    with receiving(port=port) as receiver:
        place.turn(after=11.0)
    assert receiver.kinds == ["created"]
    assert place.failures(job) == []


@pytest.mark.parametrize(
    ("answer", "patience"), [(404, REFUSED_SECONDS), (302, REFUSED_SECONDS), (500, SILENT_SECONDS)]
)
def test_in_the_end_it_is_given_up_and_told(place: Place, answer: int, patience: float) -> None:
    with receiving() as receiver:
        receiver.answers = [answer] * 1000
        job = place.submit(hook(receiver.url, "created"))
        begun = place.late
        while place.store.outbox.waiting():
            place.turn(after=60.0)
        assert patience * 0.4 < place.late - begun <= patience + 60
        (failure,) = place.failures(job)
        assert (
            f"could not be told of created, tried {len(receiver.got)} times: the receiver answered {answer}" in failure
        )
        assert {got.path for got in receiver.got} == {"/hook?room=7"}  # a redirect leads nowhere
        assert 8 < len(receiver.got) < 40
        receiver.answers = []
        place.cancel(job)  # nobody asked for this one
        place.turn()
        assert place.store.outbox.waiting() == 0


def test_no_alert_goes_to_a_private_address(place: Place) -> None:
    with receiving() as receiver:
        job = place.submit(hook(receiver.url, "created"))
        place.service.settings = replace(place.settings, private_urls=False)  # as if the name had led elsewhere before
        place.turn()
        assert receiver.got == []
        with pytest.raises(InvalidSpec, match="no public address") as caught:
            place.submit(hook(receiver.url))
        assert caught.value.where == "service.alerts.0.webhook"
        place.service.settings = place.settings
        place.turn(after=6.0)
        assert receiver.kinds == ["created"]
    assert place.failures(job) == []


def test_a_secret_is_never_in_what_is_sent_or_kept(place: Place) -> None:
    with receiving() as receiver:
        job = place.submit(hook(receiver.url))
        place.turn()
    sent = b"".join(got.body + repr(got.headers).encode() for got in receiver.got)
    assert len(receiver.got) == 2
    kept = (place.settings.data / "steep.db").read_bytes() + (place.settings.data / "steep.db-wal").read_bytes()
    assert b"handbook" in sent
    assert b"handbook" in kept
    assert SECRET.encode() not in sent + kept
    assert SECRET not in repr(place.store.jobs.detail(job, 0.0))


def test_a_secret_that_was_taken_away_is_waited_for(place: Place) -> None:
    with receiving() as receiver:
        place.submit(hook(receiver.url, "created"))
        place.store.secrets.delete("default", "HOOK", time.time())
        place.turn()
        assert receiver.got == []
        place.store.secrets.put("default", "HOOK", place.service.box.lock("a new secret"), time.time())
        place.turn(after=6.0)
    (got,) = receiver.got
    assert verify_signature(got.body, got.headers["Steep-Signature"], "a new secret", tolerance_seconds=30)


def test_without_a_secret_nothing_is_signed(place: Place) -> None:
    with receiving() as receiver:
        place.submit(hook(receiver.url, "created", secret=None))
        place.turn()
    assert "Steep-Signature" not in receiver.got[0].headers


def test_many_replicas_send_each_alert_once(place: Place) -> None:
    with receiving() as receiver:
        jobs = [place.submit(hook(receiver.url)) for _ in range(6)]
        replicas = [threading.Thread(target=AlertsLoop(place.service).turn) for _ in range(4)]
        for one in replicas:
            one.start()
        for one in replicas:
            one.join()
        place.turn()
    assert len(receiver.got) == len({got.delivery for got in receiver.got}) == 12
    for job in jobs:
        assert [str(got.told.event.kind) for got in receiver.got if got.told.event.job_id == job] == [
            "created",
            "queued",
        ]


KILLED = """
import sys
from pathlib import Path
from steep.server.loops.alerts import AlertsLoop
from steep.server.secretbox import SecretBox
from steep.server.service import Service
from steep.server.settings import ServerSettings
from steep.server.store.store import Store

settings = ServerSettings(data=Path(sys.argv[1]), private_urls=True)
store = Store.open(settings.database_url)
AlertsLoop(Service(settings, store, {}, SecretBox.at(settings.data / "secrets.key"))).turn()
"""


def test_a_server_that_is_killed_in_between_loses_none(place: Place) -> None:
    with receiving(holds=True) as receiver:
        place.submit(hook(receiver.url))
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(place.settings.data)])
        try:
            assert receiver.arrived.wait(60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        receiver.go_on.set()
        place.turn(after=LEASE_SECONDS / 2)
        assert len(receiver.got) == 1  # it may still be at it
        place.turn(after=LEASE_SECONDS / 2 + 1)
    assert receiver.kinds == ["created", "created", "queued"]
    first, again, _ = receiver.got
    assert (first.delivery, first.body) == (again.delivery, again.body)


# -------------------------------------------------------------------------------------------------------------- e-mail


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, which nobody trusts who is not told to."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "post")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("post") / "post.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # it has TLS, which the receiver does not see
@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_an_email_tells_what_happened(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with mail_server(context, from_the_beginning=scheme == "smtps") as box:
        url = f"{scheme}://steep%40example.org@127.0.0.1:{box.port}"
        place = Place(tmp_path, smtp=MailServer.parse(url, None, "a password"))
        job = place.submit({"email": "ada@example.org", "on": ["cancelled"]})
        place.cancel(job)
        place.turn()
        assert box.messages == []  # nobody vouches for that mail server
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        place.turn(after=6.0)
        place.turn(after=6.0)
        place.service.close()
    assert box.envelopes == [("steep@example.org", ["ada@example.org"], scheme == "smtp+starttls")]
    assert box.logins == [(b"steep@example.org", b"a password")]
    (message,) = box.messages
    assert message["Subject"] == "[Steep] handbook: cancelled"
    assert (message["From"], message["To"]) == ("steep@example.org", "ada@example.org")
    assert message["Message-ID"] == f"<delivery-1.{job}@example.org>"
    text = message.get_content()
    assert text.startswith("enough\r\n")
    assert f"handbook ({job})" in text
    assert f"steep jobs show {job}" in text
    assert "a password" not in message.as_string()


def test_an_email_that_is_refused_now_comes_later_or_is_told(tmp_path: Path) -> None:
    with mail_server() as box:
        place = Place(tmp_path, smtp=MailServer.parse(f"smtp://127.0.0.1:{box.port}", "steep@example.org", None))
        box.refusals = ["451 later"]
        job = place.submit({"email": "ada@example.org", "on": ["created"]})
        place.turn()
        place.turn(after=6.0)
        assert len(box.messages) == 1
        box.refusals = ["554 never"] * 100
        job = place.submit({"email": "bob@example.org", "on": ["created"]})
        while place.store.outbox.waiting():
            place.turn(after=300.0)
        (failure,) = place.failures(job)
        assert failure.startswith("bob@example.org could not be told of created")
        assert failure.endswith("the mail server answered 554 never")
        place.service.close()


def test_an_address_that_no_email_can_have_is_refused_or_given_up_and_holds_up_none(tmp_path: Path) -> None:
    with mail_server() as box:
        place = Place(tmp_path, smtp=MailServer.parse(f"smtp://127.0.0.1:{box.port}", "steep@example.org", None))
        odd = {"email": "a@[b", "on": ["created"]}
        with pytest.raises(InvalidSpec, match="no e-mail address") as caught:
            place.submit(odd)
        assert caught.value.where == "service.alerts.0.email"
        spec = place.spec(odd, {"email": "ada@example.org", "on": ["created"]})
        job = place.store.jobs.submit(spec, place.service.now())[0].id  # taken when nobody looked at addresses
        place.turn()
        assert [message["To"] for message in box.messages] == ["ada@example.org"]
        begun = place.late
        while place.store.outbox.waiting():
            place.turn(after=300.0)
        assert place.late - begun <= REFUSED_SECONDS + 300
        (failure,) = place.failures(job)
        assert failure.startswith("a@[b could not be told of created")
        place.service.close()


@pytest.mark.parametrize(
    ("url", "sender", "password", "message"),
    [
        ("https://mail.example.org", "a@example.org", None, "no mail server"),
        ("smtps://", "a@example.org", None, "no mail server"),
        ("smtps://ada:secret@mail.example.org", None, None, "password in it"),
        ("smtps://ada%40example.org@mail.example.org", None, None, "password is missing"),
        ("smtp://ada%40example.org@mail.example.org", None, "x", "readable on its way"),
        ("smtps://ada@mail.example.org", None, "x", "stands in From"),
        ("smtps://mail.example.org:a", "a@example.org", None, "no URL"),
    ],
)
def test_a_mail_server_must_make_sense(url: str, sender: str | None, password: str | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        MailServer.parse(url, sender, password)
    assert caught.value.cure


def test_ports_follow_from_how_it_is_encrypted() -> None:
    ports = {
        scheme: MailServer.parse(f"{scheme}://localhost", "a@b", None).port
        for scheme in ("smtp", "smtps", "smtp+starttls")
    }
    assert ports == {"smtp": 25, "smtps": 465, "smtp+starttls": 587}
    assert "x" * 9 not in repr(MailServer.parse("smtps://a%40b@h", None, "x" * 9))


# ---------------------------------------------------------------------------------------------------------- beforehand


@pytest.mark.parametrize(
    ("alert", "field", "cure"),
    [
        ({"webhook": "http://127.0.0.1/x"}, "service.alerts.1.webhook", "--private-urls"),
        ({"webhook": "https://u:p@example.org"}, "service.alerts.1.webhook", "needs none"),
        ({"webhook": "https://no-such-name.invalid/x"}, "service.alerts.1.webhook", "Check the URL"),
        ({"email": "a@b"}, "service.alerts.1.email", "--smtp"),
        ({"webhook": "http://198.41.0.4/x", "secret": "NONE"}, "service.alerts.1.secret", "steep secrets set NONE"),
    ],
)
def test_an_alert_that_could_not_be_sent_is_refused(place: Place, alert: dict[str, Any], field: str, cure: str) -> None:
    place.service.settings = replace(place.settings, private_urls=False)
    with pytest.raises(InvalidSpec) as caught:
        place.submit({"webhook": "http://198.41.0.4/x", "secret": "HOOK"}, alert)
    assert caught.value.where == field
    assert caught.value.cure is not None
    assert cure in caught.value.cure


def test_a_secret_signs_webhooks_only(place: Place) -> None:
    with pytest.raises(ValueError, match="an email has none"):
        place.spec({"email": "a@b", "secret": "HOOK"})


def test_alerts_leave_with_the_server(tmp_path: Path) -> None:
    with receiving() as receiver, serving(tmp_path, loops=True, private_urls=True) as house, house.client() as client:
        client.secrets.set("HOOK", SECRET)
        service = {"held": True, "alerts": [hook(receiver.url, "created", "cancelled")]}
        job = client.jobs.create(
            {"name": "told", "base": "org/x", "corpus": {"sources": ["hf://org/x"]}, "service": service}
        )
        job.cancel()
        wait_for(lambda: len(receiver.got) == 2, 20)
        with pytest.raises(InvalidSpec, match="sends no e-mail"):
            client.jobs.clone(job.id, set={"service.alerts": [{"email": "a@b"}]})
    assert receiver.kinds == ["created", "cancelled"]
    assert all(verify_signature(got.body, got.headers["Steep-Signature"], SECRET) for got in receiver.got)
