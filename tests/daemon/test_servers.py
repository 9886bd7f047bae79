"""The servers and the bus that the other tests stand on."""

import imaplib
import threading

import pytest

from busclient import BusError, label, mailbox_path
from mail import message
from servers import Dovecot


def subjects(client):
    client.noop()
    _, data = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    return [item[1].strip() for item in data if isinstance(item, tuple)]


@pytest.mark.parametrize("starttls", [False, True], ids=["tls", "starttls"])
def test_delivered_mail_appears(server, starttls):
    user = server.user()
    with server.client(user, starttls=starttls) as client:
        assert client.select("INBOX") == ("OK", [b"0"])
        server.deliver(user, message("first"))
        assert subjects(client) == [b"Subject: first"]
        server.append(user, message("second"))
        assert subjects(client) == [b"Subject: first", b"Subject: second"]


def test_octets_arrive_as_they_are(server):
    user = server.user()
    with server.client(user) as client:
        client.select("INBOX")
        server.deliver(user, message(b"raw \xe9\xff"))
        assert subjects(client) == [b"Subject: raw \xe9\xff"]


def test_other_mailboxes(server):
    user = server.user()
    name = server.mailbox("Entwürfe")
    server.append(user, message("draft"), name)
    server.deliver(user, message("another"), name)
    with server.client(user) as client:
        quoted = '"' + server.mailbox("Entw&APw-rfe") + '"'
        assert client.select(quoted) == ("OK", [b"2"])


def test_users_are_strangers(server):
    one, other = server.user(), server.user()
    server.deliver(one, message())
    with server.client(other) as client:
        assert client.select("INBOX") == ("OK", [b"0"])


def test_wrong_password(server):
    user = server.user()
    with pytest.raises(imaplib.IMAP4.error):
        server.client(user._replace(password="wrong"))


def test_two_at_once_and_restart(server):
    """A second instance lives beside the first, and keeps its mail and its ports."""
    with type(server)() as second:
        assert {second.imap, second.imaps}.isdisjoint({server.imap, server.imaps})
        user = second.user("only-here")
        second.deliver(user, message("kept"))
        second.restart()
        with second.client(user) as client:
            client.select("INBOX")
            assert subjects(client) == [b"Subject: kept"]


def test_dovecot_settings():
    settings = "mail_max_userip_connections = 1"
    with Dovecot(capability="IMAP4rev1 IDLE", settings=settings) as server:
        user = server.user()
        with server.client(user) as client:
            assert client.capability()[1][0] == b"IMAP4rev1 IDLE"
            with pytest.raises(imaplib.IMAP4.error, match="Maximum number"):
                server.client(user)
        other = server.user(imap_capability="IMAP4rev1")
        with server.client(other) as client:
            assert client.capability()[1][0] == b"IMAP4rev1"


def test_dovecot_passwords(dovecot):
    user = dovecot.user()
    changed = dovecot.set_password(user, "changed")
    dovecot.client(changed).logout()
    with pytest.raises(imaplib.IMAP4.error):
        dovecot.client(user)


@pytest.mark.parametrize("seconds", [600, -60], ids=["good", "expired"])
def test_dovecot_tokens(dovecot, seconds):
    user = dovecot.user()
    token = dovecot.token(user, seconds)

    def answer(challenge):
        return f"user={user}\1auth=Bearer {token}\1\1".encode() if not challenge else b""

    context = dovecot.certificates.client_context()
    client = imaplib.IMAP4_SSL(dovecot.host, dovecot.imaps, ssl_context=context)
    try:
        if seconds > 0:
            client.authenticate("XOAUTH2", answer)
            assert client.select("INBOX")[0] == "OK"
        else:
            with pytest.raises(imaplib.IMAP4.error):
                client.authenticate("XOAUTH2", answer)
    finally:
        client.shutdown()


def test_bus(bus):
    driver = {
        "path": "/org/freedesktop/DBus",
        "interface": "org.freedesktop.DBus",
        "destination": "org.freedesktop.DBus",
    }
    assert bus.unique_name in bus.call("ListNames", **driver)
    with pytest.raises(BusError) as caught:
        bus.call("Refresh", "ss", "", "")
    assert caught.value.name == "org.freedesktop.DBus.Error.ServiceUnknown"
    with pytest.raises(TimeoutError):
        bus.wait_for_signal("NewMail", timeout=0.1)
    assert label("1a.é") == "_31a_2e_c3_a9"
    assert mailbox_path("w", "Lists/dev") == "/org/example/MailIdle/w/Lists_2fdev"


def test_bus_sees_a_service(bus):
    """Properties are those of the last signal, and signals have the order of the wire."""
    from dbus_next import Message, Variant
    from dbus_next.service import PropertyAccess, ServiceInterface, dbus_property

    class Mailbox(ServiceInterface):
        @dbus_property(access=PropertyAccess.READ)
        def Unread(self) -> "u":
            return 1

    service = bus.another()
    path = mailbox_path("work", "INBOX")
    mailbox = Mailbox("org.example.MailIdle.Mailbox")
    root = Mailbox("org.example.MailIdle")

    async def publish():
        service._bus.export("/org/example/MailIdle", root)
        service._bus.export(path, mailbox)
        await service._bus.request_name("org.example.MailIdle")

    service._run(publish())
    bus.wait(lambda: bus.is_loaded)
    assert bus.mailbox("work", "INBOX")["Unread"] == 1
    mark = bus.mark()

    def emit(count):
        mailbox.emit_properties_changed({"Unread": count})
        arguments = ["work", "INBOX", [{"Uid": Variant("u", count)}]]
        service._bus.send(
            Message.new_signal(
                "/org/example/MailIdle", "org.example.MailIdle", "NewMail", "ssaa{sv}", arguments
            )
        )

    for count in (2, 3):
        threading.Thread(target=service._loop.call_soon_threadsafe, args=[emit, count]).start()
        signal = bus.wait_for_signal("NewMail", lambda *a: a[2][0]["Uid"] == count, since=mark)
        assert signal.arguments == ["work", "INBOX", [{"Uid": count}]]
        assert bus.mailbox("work", "INBOX")["Unread"] == count
    assert [each["Uid"] for each in bus.new_mail("work", "INBOX")] == [2, 3]
    assert bus.get(path, "org.example.MailIdle.Mailbox", "Unread") == 1
    service.close()
    bus.wait(lambda: not bus.owner and not bus.objects)
