"""What a subscriber sees of a mailbox, against each of the three real servers, over TLS and STARTTLS."""

import base64
import os
import quopri

import pytest

from busclient import BusError
from mail import message


def word(text, charset, encoding):
    """An encoded word of RFC 2047."""
    octets = text.encode(charset)
    if encoding == "B":
        coded = base64.b64encode(octets).decode()
    else:
        coded = quopri.encodestring(octets, quotetabs=True, header=True).decode()
        coded = coded.replace("=\n", "").replace("?", "=3F")
    return f"=?{charset}?{encoding}?{coded}?="


# What stands in the header, and what a subscriber is to see; None: the key is left out.
SUBJECTS = [
    ("plain words", "plain words"),
    (word("Grüße aus Köln", "utf-8", "Q"), "Grüße aus Köln"),
    (word("Grüße aus Köln", "iso-8859-1", "Q"), "Grüße aus Köln"),
    (word("Preis: 5 €", "iso-8859-15", "B"), "Preis: 5 €"),
    (word("„Zitat“ – Ende", "windows-1252", "Q"), "„Zitat“ – Ende"),
    (word("Привет, мир", "koi8-r", "B"), "Привет, мир"),
    (word("Привет", "windows-1251", "Q"), "Привет"),
    (word("日本語の件名", "iso-2022-jp", "B"), "日本語の件名"),
    (word("こんにちは", "shift_jis", "B"), "こんにちは"),
    (word("你好世界", "gb2312", "B"), "你好世界"),
    (word("你好世界", "gb18030", "Q"), "你好世界"),
    (word("繁體中文", "big5", "B"), "繁體中文"),
    (word("안녕하세요", "euc-kr", "B"), "안녕하세요"),
    (word("😀 smile", "utf-8", "B"), "😀 smile"),
    (word("one ", "utf-8", "Q") + " " + word("two", "iso-8859-1", "B"), "one two"),
    ("raw Grüße ✓", "raw Grüße ✓"),
    ("tab\there", "tab here"),
    ("folded\r\n over two lines", "folded over two lines"),
    ('quotes " and \\ back', 'quotes " and \\ back'),
    ("", ""),
]

SENDERS = [
    ("Jo Sender <jo@example.test>", [["Jo Sender", "jo@example.test"]]),
    ("jo@example.test", [["", "jo@example.test"]]),
    (word("Jörg Müller", "utf-8", "Q") + " <jm@example.test>", [["Jörg Müller", "jm@example.test"]]),
    ('"Last, First" <lf@example.test>', [["Last, First", "lf@example.test"]]),
    (
        "One <one@example.test>, Two <two@example.test>",
        [["One", "one@example.test"], ["Two", "two@example.test"]],
    ),
]


def uid_of(bus, subject):
    return bus.wait(
        lambda: [m for m in bus.new_mail() if m.get("Subject") == subject][0]["Uid"],
        what=f"NewMail with {subject}",
    )


@pytest.fixture(params=["tls", "starttls"])
def security(request):
    return request.param


def test_first_synchronisation_is_silent(watch, bus, server, security):
    user = server.user()
    for i in range(3):
        server.append(user, message(f"old {i}"), flags="\\Seen" if i == 0 else None)
    watch(server, user, security=security)
    box = bus.mailbox("work", "INBOX")
    assert (box["Messages"], box["Unread"]) == (3, 2)
    assert box["UidValidity"] > 0 and box["UidNext"] > 3
    bus.call("Refresh", "ss", "work", "INBOX")
    assert bus.matching("NewMail") == []
    assert bus.matching("FlagsChanged") == []
    assert bus.root()["Unread"] == 2 and bus.root()["Online"] is True
    account = bus.account("work")
    assert account["Secure"] is True and account["TlsVersion"].startswith("TLS1.")
    assert "IMAP4REV1" in [word.upper() for word in account["Capabilities"]]


def test_fifty_messages_are_each_announced_once(watch, bus, server, security):
    user = server.user()
    watch(server, user, security=security)
    expected = []
    for i in range(50):
        raw_subject, subject = SUBJECTS[i % len(SUBJECTS)]
        raw_sender, sender = SENDERS[i % len(SENDERS)]
        octets = message(
            raw_subject, sender=raw_sender, message_id=f"<number-{i}@example.test>", body=f"body {i}\r\n"
        )
        server.deliver(user, octets)
        expected.append((f"<number-{i}@example.test>", subject, sender))
    bus.wait(lambda: len(bus.new_mail()) >= 50, 60, "50 messages announced")
    bus.call("Refresh", "ss", "work", "INBOX")
    told = bus.new_mail("work", "INBOX")
    assert len(told) == 50
    assert [m["Uid"] for m in told] == sorted({m["Uid"] for m in told})
    # A Subject that is empty is NIL in the ENVELOPE of some.
    seen = sorted((m["MessageId"], m.get("Subject", ""), m["From"]) for m in told)
    assert seen == sorted((number, subject, sender) for number, subject, sender in expected)
    for m in told:
        assert m["Date"] == 1704110400
        assert m["Flags"] == []
        assert m["UidValidity"] == bus.mailbox("work", "INBOX")["UidValidity"]
        assert abs(m["Received"] - 1704110400) > 1000 and m["Size"] > 100
    box = bus.mailbox("work", "INBOX")
    assert (box["Messages"], box["Unread"]) == (50, 50)
    # Nothing that we did shows on the server.
    with server.client(user) as client:
        status, [count] = client.select("INBOX")
        assert (status, count) == ("OK", b"50")
        assert client.search(None, "SEEN")[1] in ([b""], [None])
        assert client.response("RECENT")[1] == [b"50"]


def test_headers_that_are_not_there(watch, bus, server):
    user = server.user()
    watch(server, user)
    server.deliver(user, b"Message-ID: <bare@example.test>\r\n\r\nno more than that\r\n")
    server.deliver(user, b"Subject:\r\nMessage-ID: <empty@example.test>\r\nFrom:\r\n\r\nx\r\n")
    bus.wait(lambda: len(bus.new_mail()) == 2, what="both announced")
    bare, empty = bus.new_mail()
    assert "Subject" not in bare and bare["MessageId"] == "<bare@example.test>"
    if server.software != "cyrus":  # which adds a Date
        assert "Date" not in bare
    assert empty.get("Subject", "") == ""


def test_flags_set_by_another_client(watch, bus, server):
    user = server.user()
    for i in range(3):
        server.append(user, message(f"old {i}"))
    watch(server, user)
    with server.client(user) as client:
        client.select("INBOX")
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        client.uid("STORE", uids[1], "+FLAGS", "(\\Seen \\Flagged)")
        uid = int(uids[1])
        bus.wait_for_signal(
            "FlagsChanged",
            lambda account, mailbox, changes: any(
                u == uid and set(flags) == {"\\Seen", "\\Flagged"} for u, flags in changes
            ),
        )
        bus.wait(lambda: bus.mailbox("work", "INBOX")["Unread"] == 2, what="2 unread")
        client.uid("STORE", uids[1], "-FLAGS", "(\\Seen)")
        bus.wait(lambda: bus.mailbox("work", "INBOX")["Unread"] == 3, what="3 unread")


def test_expunged_by_another_client(watch, bus, server):
    user = server.user()
    for i in range(5):
        server.append(user, message(f"old {i}"))
    watch(server, user)
    with server.client(user) as client:
        client.select("INBOX")
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        gone = {int(uids[1]), int(uids[3])}
        client.uid("STORE", b",".join([uids[1], uids[3]]), "+FLAGS", "(\\Deleted)")
        client.expunge()
    bus.wait(
        lambda: {u for s in bus.matching("Expunged") for u in s.arguments[2]} == gone,
        what="both expunged",
    )
    bus.wait(lambda: bus.mailbox("work", "INBOX")["Messages"] == 3, what="3 messages")
    # Numbers are right afterwards: the one that is now the third is flagged.
    with server.client(user) as client:
        client.select("INBOX")
        client.store("3", "+FLAGS", "(\\Flagged)")
        bus.wait_for_signal(
            "FlagsChanged", lambda a, m, changes: [u for u, f in changes] == [int(uids[4])]
        )


def test_names_of_mailboxes(watch, bus, server):
    user = server.user()
    names = [server.mailbox("Entwürfe"), server.mailbox("Lists", "dev")]
    odd = server.mailbox('a&b "c"')
    for name in names:
        server.append(user, message("old"), name)
    if server.software != "cyrus":  # which takes no quotes
        server.append(user, message("old"), odd)
        names.append(odd)
    watch(server, user, tuple(["INBOX", *names]), max_connections=8)
    for name in names:
        server.append(user, message(f"into {name}"), name)
        signal = bus.wait_for_signal("NewMail", lambda a, m, messages, name=name: m == name)
        assert signal.arguments[2][0]["Subject"] == f"into {name}"
    listed = {name for name, attributes in bus.call("ListMailboxes", "s", "work")}
    assert {"INBOX", *names} <= listed


PARTS = b"""From: =?utf-8?Q?J=C3=B6rg?= <j@example.test>\r
Sender: Secretary <s@example.test>\r
Reply-To: <r@example.test>\r
To: A <a@example.test>, B <b@example.test>\r
Cc: C <c@example.test>\r
Subject: parts\r
Date: Tue, 02 Jan 2024 10:00:00 +0200\r
Message-ID: <parts@example.test>\r
In-Reply-To: <before@example.test>\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=x\r
\r
--x\r
Content-Type: multipart/alternative; boundary=y\r
\r
--y\r
Content-Type: text/plain; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
Sch=F6ne Gr=FC=DFe,\r
zweite Zeile\r
--y\r
Content-Type: text/html; charset=utf-8\r
\r
<p>other</p>\r
--y--\r
--x\r
Content-Type: application/pdf; name="r.pdf"\r
Content-Disposition: attachment; filename*=utf-8''R%C3%BCckgabe.pdf\r
Content-Transfer-Encoding: base64\r
\r
JVBERi0xLjQK\r
--x--\r
"""

HTML = b"""From: h@example.test\r
Subject: html\r
Message-ID: <html@example.test>\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<html><head><style>p {}</style></head><body><p>Hello &amp; <b>welcome</b></p>\r
<p>second</p></body></html>\r
"""


def test_fetch_every_item(watch, bus, server):
    user = server.user()
    server.append(user, PARTS, flags="(\\Answered)")
    server.append(user, HTML)
    watch(server, user)
    everything = ["envelope", "flags", "received", "size", "preview", "text", "attachments", "identity"]
    parts, html = bus.call("Fetch", "ssauas", "work", "INBOX", [1, 2, 77], everything)
    assert parts["Uid"] == 1 and html["Uid"] == 2
    assert parts["From"] == [["Jörg", "j@example.test"]]
    assert parts["Sender"] == [["Secretary", "s@example.test"]]
    assert parts["ReplyTo"] == [["", "r@example.test"]]
    assert parts["To"] == [["A", "a@example.test"], ["B", "b@example.test"]]
    assert parts["Cc"] == [["C", "c@example.test"]]
    assert "Bcc" not in parts
    assert parts["Subject"] == "parts" and parts["Date"] == 1704182400
    assert parts["MessageId"] == "<parts@example.test>"
    assert parts["InReplyTo"] == "<before@example.test>"
    assert parts["Flags"] == ["\\Answered"]
    assert parts["Size"] == len(PARTS)
    assert parts["Text"].splitlines() == ["Schöne Grüße,", "zweite Zeile"]
    assert parts["Preview"].startswith("Schöne Grüße")
    [[name, kind, size]] = parts["Attachments"]
    assert (name, kind) == ("Rückgabe.pdf", "application/pdf") and size > 0
    assert html["Text"].split() == ["Hello", "&", "welcome", "second"]
    assert html["Attachments"] == []
    if server.software == "cyrus":  # OBJECTID
        assert parts["EmailId"] and parts["ThreadId"]
    [default] = bus.call("Fetch", "ssauas", "work", "INBOX", [1], [])
    assert {"Subject", "Flags", "Received", "Size"} <= set(default) and "Text" not in default
    with server.client(user) as client:
        client.select("INBOX", readonly=True)
        assert client.search(None, "SEEN")[1] in ([b""], [None])


def test_fetch_raw(watch, bus, server):
    user = server.user()
    large = message("large", body=b"".join(b"%08d %s\r\n" % (i, b"x" * 60) for i in range(50000)))
    server.append(user, PARTS)
    server.append(user, large)
    watch(server, user)
    assert bus.fetch_raw("work", "INBOX", 1) == PARTS
    assert bus.fetch_raw("work", "INBOX", 2) == large
    with pytest.raises(BusError) as refused:
        bus.fetch_raw("work", "INBOX", 99)
    assert refused.value.name == "NoSuchMessage"


def test_list_since_and_unread(watch, bus, server):
    user = server.user()
    for i in range(6):
        server.append(user, message(f"number {i}"), flags="\\Seen" if i % 2 else None)
    watch(server, user)
    uidvalidity = bus.mailbox("work", "INBOX")["UidValidity"]
    listed = bus.call("ListSince", "ssuuu", "work", "INBOX", uidvalidity, 2, 3)
    assert [m["Subject"] for m in listed] == ["number 2", "number 3", "number 4"]
    assert bus.call("ListSince", "ssuuu", "work", "INBOX", uidvalidity, 6, 0) == []
    with pytest.raises(BusError) as refused:
        bus.call("ListSince", "ssuuu", "work", "INBOX", uidvalidity + 1, 0, 0)
    assert refused.value.name == "Reset"
    unread = bus.call("ListUnread", "ssu", "work", "INBOX", 2)
    assert [m["Subject"] for m in unread] == ["number 4", "number 2"]


def test_set_flags(watch, bus, server):
    user = server.user()
    for i in range(3):
        server.append(user, message(f"number {i}"))
    watch(server, user)
    bus.call("SetFlags", "ssauasas", "work", "INBOX", [1, 3], ["\\Seen", "$Work"], [])
    # The signal came before the reply.
    changed = {u: set(f) for s in bus.matching("FlagsChanged") for u, f in s.arguments[2]}
    assert set(changed) == {1, 3} and all({"\\Seen", "$Work"} <= flags for flags in changed.values())
    bus.call("SetFlags", "ssauasas", "work", "INBOX", [3], ["\\Flagged"], ["\\Seen"])
    with server.client(user) as client:
        client.select("INBOX", readonly=True)
        assert client.search(None, "SEEN")[1] == [b"1"]
        assert client.search(None, "FLAGGED")[1] == [b"3"]
    bus.wait_for_state("work", "INBOX")
    assert bus.mailbox("work", "INBOX")["Unread"] == 2
    for flag in ("\\Recent", "two words", "\\", "", "a(b"):
        with pytest.raises(BusError) as refused:
            bus.call("SetFlags", "ssauasas", "work", "INBOX", [1], [flag], [])
        assert refused.value.name == "org.freedesktop.DBus.Error.InvalidArgs"


def test_move(watch, bus, server):
    user = server.user()
    target = server.mailbox("Elsewhere")
    server.append(user, message("was there"), target)
    for i in range(3):
        server.append(user, message(f"number {i}"))
    watch(server, user, ("INBOX", target))
    bus.call("Move", "ssaus", "work", "INBOX", [2], target)
    assert [s.arguments[2] for s in bus.matching("Expunged")] == [[2]]
    signal = bus.wait_for_signal("NewMail", lambda a, m, messages: m == target)
    assert [m["Subject"] for m in signal.arguments[2]] == ["number 1"]
    with pytest.raises(BusError) as refused:
        bus.call("Move", "ssaus", "work", "INBOX", [1], server.mailbox("Nowhere"))
    assert refused.value.name in ("NoSuchMailbox", "ServerRefused")
    bus.wait_for_state("work", "INBOX")
    if server.software != "courier":  # which has no special use
        bus.call("Move", "ssaus", "work", "INBOX", [1], "\\Trash")
        with server.client(user) as client:
            assert client.select(server.mailbox("Trash"), readonly=True)[1] == [b"1"]
    with pytest.raises(BusError) as refused:
        bus.call("Move", "ssaus", "work", "INBOX", [77], target)
    assert refused.value.name == "NoSuchMessage"


def test_list_mailboxes(watch, bus, server):
    user = server.user()
    server.append(user, message("x"), server.mailbox("Lists", "dev"))
    watch(server, user)
    listed = dict(bus.call("ListMailboxes", "s", "work"))
    assert "INBOX" in listed and server.mailbox("Lists", "dev") in listed
    if server.software != "courier":
        assert "\\trash" in [w.lower() for w in listed[server.mailbox("Trash")]]


def test_stop_and_start(watch, bus, server):
    user = server.user()
    running = watch(server, user)
    bus.call("Stop", "ss", "work", "INBOX")
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"
    server.deliver(user, message("while stopped"))
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "work", "INBOX")
    assert refused.value.name == "Stopped"
    running.restart()
    bus.wait_for_state("work", "INBOX", "stopped")
    assert bus.new_mail() == []
    bus.call("Start", "ss", "work", "INBOX")
    uid_of(bus, "while stopped")
    bus.wait_for_state("work", "INBOX")
    assert len(bus.new_mail()) == 1


def test_a_restart_announces_what_came_in_between_and_nothing_else(watch, bus, server):
    user = server.user()
    for i in range(4):
        server.append(user, message(f"old {i}"))
    running = watch(server, user)
    server.deliver(user, message("seen live"))
    uid_of(bus, "seen live")
    running.stop()
    mark = bus.mark()
    server.deliver(user, message("in between"))
    with server.client(user) as client:
        client.select("INBOX")
        client.store("2", "+FLAGS", "(\\Seen)")
        client.store("3", "+FLAGS", "(\\Deleted)")
        client.expunge()
    running.start()
    bus.wait_for_state("work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert [m["Subject"] for m in bus.new_mail(since=mark)] == ["in between"]
    changed = [u for s in bus.matching("FlagsChanged", since=mark) for u, f in s.arguments[2]]
    assert changed == [2]
    assert [u for s in bus.matching("Expunged", since=mark) for u in s.arguments[2]] == [3]
    box = bus.mailbox("work", "INBOX")
    assert (box["Messages"], box["Unread"]) == (5, 4)


def test_a_thousand_messages_that_came_while_nobody_looked(watch, bus, dovecot):
    user = dovecot.user()
    dovecot.append(user, message("old"))
    running = watch(dovecot, user)
    running.stop()
    box = dovecot.folder / "mail" / user.name / "Maildir"
    owner = box.stat()
    for i in range(1000):
        path = box / "new" / f"{1000000 + i}.M{i}.example"
        path.write_bytes(message(f"number {i}"))
        os.chown(path, owner.st_uid, owner.st_gid)
    mark = bus.mark()
    running.start()
    bus.wait(lambda: len(bus.new_mail(since=mark)) >= 1000, 60, "all of them announced")
    bus.wait_for_state("work", "INBOX")
    assert max(len(s.arguments[2]) for s in bus.matching("NewMail", since=mark)) <= 100
    uids = [m["Uid"] for m in bus.new_mail(since=mark)]
    assert len(uids) == 1000 and uids == sorted(set(uids))
    # What was announced is stored right after it has left: a round trip later it is for certain.
    bus.call("Refresh", "ss", "work", "INBOX")
    running.kill()
    running.start()
    bus.wait_for_state("work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert len(bus.new_mail(since=mark)) == 1000
    assert bus.matching("FlagsChanged", since=mark) == []
