"""No secret leaves in a line of text, and innocent text stays as it is."""

from __future__ import annotations

import pytest

from steep.artifacts.redaction import REDACTED, Redaction

ENVIRONMENT = {
    "HF_TOKEN": "hf_notarealtoken",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY",
    "DB_PASSWORD": 'quo"ted\\pass',
    "SSH_PRIVATE_KEY": "-----BEGIN KEY-----\nfirst-line-of-it\nsecond-line-of-it\n",
    "SHORT_KEY": "abc",
    "TOKENIZERS_PARALLELISM": "false",
    "HOME": "/home/somebody",
    "LANG": "C.UTF-8-and-long",
}


@pytest.mark.parametrize(
    "line",
    [
        "loading with hf_notarealtoken now",
        "https://bucket/x?sig=wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCY",
        "key=wJalrXUtnFEMI/K7MDENG+bPxRfiCY.",
        'config {"password": "quo\\"ted\\\\pass"}',
        "second-line-of-it",
        "GET https://user:p4ssw0rd@example.org/path",
        "postgresql://steep:hunter2@db:5432/steep",
        "https://s3/x?X-Amz-Credential=AK&X-Amz-Signature=0123abcd&list-type=2",
        "https://hub/resolve?token=abc123&x=1",
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "'authorization': 'Basic dXNlcjpwYXNzd29yZA=='",
        "using sk-abcdefghijklmnopqrstuvwx",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----MIIEow",
    ],
)
def test_secrets_are_taken_out(line: str) -> None:
    clean = Redaction.of(ENVIRONMENT)(line)
    assert REDACTED in clean
    secrets = [
        "hf_notarealtoken", "wJalr", "quo", "second-line", "p4ss", "hunter2", "0123abcd", "abc123", "eyJ", "dXNl",
        "sk-abc", "hf_abc", "ghp_", "AKIAI", "MIIE",
    ]  # fmt: skip
    assert not [one for one in secrets if one in clean]


def test_what_surrounds_them_stays() -> None:
    redact = Redaction.of(ENVIRONMENT)
    assert redact("GET https://user:p4ss@example.org/a?token=x&page=2 took 3 s") == (
        f"GET https://user:{REDACTED}@example.org/a?token={REDACTED}&page=2 took 3 s"
    )
    assert redact("a hf_notarealtoken, twice hf_notarealtoken") == f"a {REDACTED}, twice {REDACTED}"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "step 12 of 24, loss 2.31, 1,234 tokens/s, false",
        "/home/somebody/runs/handbook/checkpoints/step-00000012",
        "C.UTF-8-and-long",
        "https://example.org:8443/path?page=2&monkey=1#key",
        "the token dataset has 123456 tokens; keys abc; basic idea; a bearer of news",
        "s3://bucket/prefix/step-00000008/weights.safetensors",
        "mail somebody@example.org at 10:30",
        "zwölf € \U0001f600",
    ],
)
def test_innocent_text_stays(line: str) -> None:
    expected = line.replace("monkey=1", f"monkey={REDACTED}")  # too much rather than too little
    assert Redaction.of(ENVIRONMENT)(line) == expected


def test_the_longer_of_two_goes_whole() -> None:
    assert Redaction(["part-of-it", "part-of-it-and-more"])("a part-of-it-and-more b part-of-it") == (
        f"a {REDACTED} b {REDACTED}"
    )


def test_nothing_known_still_looks_for_what_looks_like_one() -> None:
    assert Redaction()("https://a:bcd@e") == f"https://a:{REDACTED}@e"
    assert Redaction(["", "  ", "short"])("a short text") == "a short text"
