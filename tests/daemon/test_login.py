"""Every way to log in, against servers that offer it, and what follows when they refuse."""

import subprocess

import pytest

from busclient import BusError
from mail import message
from mailidled import Account, value
from servers import Cyrus, Dovecot


def mechanism_of(running):
    """The word after AUTHENTICATE, or LOGIN, as the trace has it."""
    words = [
        line.split()
        for line in running.trace.read_text().splitlines()
        if " AUTHENTICATE " in line or line.endswith(" LOGIN")
    ]
    return words[-1][-1]


@pytest.mark.parametrize(
    "auth, expected",
    [
        ("auto", "SCRAM-SHA-256"),
        ("PLAIN", "PLAIN"),
        ("LOGIN", "LOGIN"),
        ("CRAM-MD5", "CRAM-MD5"),
        ("SCRAM-SHA-1", "SCRAM-SHA-1"),
        ("SCRAM-SHA-256", "SCRAM-SHA-256"),
        ("login", "LOGIN"),
    ],
)
@pytest.mark.parametrize("secret", ["password-file", "password-command"])
def test_passwords_on_dovecot(daemon, bus, dovecot, auth, expected, secret):
    user = dovecot.user(password='p w"ü\\d')
    running = daemon(Account("work", dovecot, user, secret=secret, options={"auth": auth}))
    bus.wait_for_state("work", "INBOX")
    assert mechanism_of(running) == expected
    assert 'p w"' not in running.trace.read_text() + running.log


@pytest.mark.parametrize("auth", ["auto", "PLAIN", "CRAM-MD5", "login"])
def test_passwords_on_courier(daemon, bus, courier, auth):
    running = daemon(Account("work", courier, courier.user(), options={"auth": auth}))
    bus.wait_for_state("work", "INBOX")
    if auth != "auto":
        assert mechanism_of(running) == auth.upper()


@pytest.mark.parametrize("auth", ["auto", "PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_passwords_on_cyrus(daemon, bus, cyrus, auth):
    running = daemon(Account("work", cyrus, cyrus.user(), options={"auth": auth}))
    bus.wait_for_state("work", "INBOX")
    if auth != "auto":
        assert mechanism_of(running) == auth


@pytest.mark.parametrize("auth", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "auto"])
def test_channel_binding_on_cyrus(daemon, bus, auth):
    """Cyrus takes tls-unique alone, which TLS 1.3 has not: so 1.2 here."""
    if Cyrus.unavailable():
        pytest.skip(f"Cyrus: {Cyrus.unavailable()}")
    with Cyrus(settings="tls_versions: tls1_2") as server:
        running = daemon(Account("work", server, server.user(), options={"auth": auth}))
        bus.wait_for_state("work", "INBOX")
        assert bus.account("work")["TlsVersion"] == "TLS1.2"
        assert mechanism_of(running) == ("SCRAM-SHA-256-PLUS" if auth == "auto" else auth)


@pytest.mark.parametrize("auth", ["auto", "XOAUTH2", "OAUTHBEARER"])
def test_tokens(daemon, bus, dovecot, auth):
    running = daemon(
        Account("work", dovecot, dovecot.user(), secret="token-command", options={"auth": auth})
    )
    bus.wait_for_state("work", "INBOX")
    assert mechanism_of(running) == ("OAUTHBEARER" if auth == "auto" else auth)


def counting_command(folder, prints):
    """A command that notes each run, and the file of its notes."""
    notes = folder / "runs"
    script = folder / "command"
    script.write_text(f"#!/bin/sh\necho run >> {notes}\nprintf '%s\\n' '{prints}'\n")
    script.chmod(0o755)
    return script, notes


@pytest.mark.parametrize("auth", ["XOAUTH2", "OAUTHBEARER"])
def test_a_refused_token_is_fetched_once_more(daemon, bus, dovecot, folder, auth):
    user = dovecot.user()
    script, notes = counting_command(folder, dovecot.token(user, seconds=-600))
    options = {"auth": auth, "token_command": script}
    daemon(Account("work", dovecot, user, secret=None, options=options))
    bus.wait_for_state("work", "INBOX", "failed", timeout=40)
    assert notes.read_text() == "run\nrun\n"
    name, text = bus.mailbox("work", "INBOX")["Error"]
    assert name == "org.example.MailIdle.Error.AuthenticationFailed"
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "work", "INBOX")
    assert refused.value.name == "AuthenticationFailed"
    # A command that is right again, and Start.
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' '{dovecot.token(user)}'\n")
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX")
    assert bus.mailbox("work", "INBOX")["Error"] == ["", ""]


def test_a_wrong_password_is_not_tried_in_a_loop(daemon, bus, dovecot, folder):
    user = dovecot.user()
    script, notes = counting_command(folder, "wrong")
    running = daemon(
        Account("work", dovecot, user, secret=None, options={"password_command": script})
    )
    bus.wait_for_state("work", "INBOX", "waiting")
    box = bus.mailbox("work", "INBOX")
    assert box["Error"][0] == "org.example.MailIdle.Error.AuthenticationFailed"
    assert 50e6 < box["NextTry"] - int(subprocess.check_output(["date", "+%s"])) * 1e6 < 70e6
    assert notes.read_text() == "run\n"
    # A person's wish does not wait for the minute; refused again, that is that.
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "failed")
    assert notes.read_text() == "run\nrun\n"
    assert bus.mailbox("work", "INBOX")["NextTry"] == 0
    assert "wrong" not in running.trace.read_text()
    script.write_text(f"#!/bin/sh\necho {user.password}\n")
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX")


def test_a_password_file_that_changes_is_tried(daemon, bus, dovecot, folder):
    user = dovecot.user()
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text("wrong\n")
    daemon(Account("work", dovecot, user, secret=None, options={"password_file": secret}))
    bus.wait_for_state("work", "INBOX", "waiting")
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "failed")
    secret.write_text(user.password + "\n")
    bus.wait_for_state("work", "INBOX")


def test_a_systemd_credential(new_daemon, bus, dovecot, folder):
    user = dovecot.user()
    credentials = folder / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "mailidle.work").write_text(user.password)
    (credentials / "mailidle.work").chmod(0o400)
    running = new_daemon({"CREDENTIALS_DIRECTORY": str(credentials)})
    running.configure(Account("work", dovecot, user, secret=None)).start()
    bus.wait_for_state("work", "INBOX")


def test_a_client_certificate(daemon, bus, folder):
    """SASL EXTERNAL: Dovecot takes the user's name from the certificate."""
    key, request, certificate = folder / "jo.key", folder / "jo.csr", folder / "jo.pem"
    own = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    subprocess.run(
        [*own, "-keyout", key, "-out", certificate, "-subj", "/CN=user1@example.test"],
        check=True,
        capture_output=True,
    )
    settings = (
        f"ssl_ca = <{certificate}\nssl_verify_client_cert = yes\n"
        "auth_ssl_username_from_cert = yes\nauth_ssl_require_client_cert = no\n"
        "ssl_require_crl = no\nauth_mechanisms = plain external\n"
        "passdb {\n  driver = static\n  mechanisms = external\n  args = nopassword=y\n}\n"
    )
    with Dovecot(settings=settings) as server:
        user = server.user()
        options = {"client_certificate": certificate, "client_key": key, "auth": "EXTERNAL"}
        running = daemon(Account("work", server, user, secret=None, options=options))
        bus.wait_for_state("work", "INBOX")
        assert mechanism_of(running) == "EXTERNAL"
        server.deliver(user, message("by certificate"))
        bus.wait_for_signal("NewMail")


def test_preauth_through_a_command(daemon, bus, dovecot):
    user = dovecot.user()
    options = {"proxy_command": dovecot.preauth_command(user)}
    daemon(Account("work", dovecot, user, security="plain", secret=None, options=options))
    bus.wait_for_state("work", "INBOX")
    dovecot.deliver(user, message("through the tunnel"))
    bus.wait_for_signal("NewMail")
    assert bus.account("work")["Secure"] is False


def test_plain_goes_to_loopback_only(daemon, bus, dovecot):
    user = dovecot.user()
    daemon(Account("work", dovecot, user, security="plain", options={"host": "127.0.0.1"}))
    bus.wait_for_state("work", "INBOX")


def test_an_unknown_certificate_gets_no_password(daemon, bus, dovecot, folder):
    user = dovecot.user()
    other = folder / "other.pem"
    own = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    subprocess.run(
        [*own, "-keyout", folder / "other.key", "-out", other, "-subj", "/CN=Other Root"],
        check=True,
        capture_output=True,
    )
    running = daemon(Account("work", dovecot, user, options={"ca_file": other}))
    bus.wait_for_state("work", "INBOX", "waiting")
    name, text = bus.mailbox("work", "INBOX")["Error"]
    assert name == "org.example.MailIdle.Error.CertificateInvalid"
    assert text
    assert "AUTHENTICATE" not in (running.trace.read_text() if running.trace.exists() else "")


def test_a_fingerprint_is_trusted_alone(daemon, bus, dovecot):
    user = dovecot.user()
    shown = subprocess.check_output(
        ["openssl", "x509", "-in", dovecot.certificates.chain, "-noout", "-fingerprint", "-sha256"],
        text=True,
    )
    fingerprint = "sha256:" + shown.strip().split("=")[1].replace(":", "").lower()
    account = Account("work", dovecot, user, options={"certificate_fingerprint": fingerprint})
    text = account.text
    account.text = lambda folder: "\n".join(
        line for line in text(folder).splitlines() if "ca-file" not in line
    )
    daemon(account)
    bus.wait_for_state("work", "INBOX")


def test_no_secret_is_seen(daemon, bus, dovecot):
    """The password is in no log and trace, on no bus, in no child's environment."""
    password = "s3cr3t-Wörd"
    user = dovecot.user(password=password)
    running = daemon(Account("work", dovecot, user, options={"auth": "PLAIN"}))
    bus.wait_for_state("work", "INBOX")
    seen = running.log + running.trace.read_text() + bus.describe() + repr(bus.signals)
    for form in (password, value(password), "czNjcjN0"):
        assert form not in seen
