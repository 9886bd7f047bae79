"""mailidle at work; tests/demo is how it is started.

A mail server, a session bus, mailidled and a subscriber, all in a temporary folder; one mail from
end to end. With --keep everything stays for you to try, until Ctrl-C.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

from workplace import TOP, BuildError, build, locked, temporary

sys.path.insert(0, str(TOP / "tests/daemon"))

from busclient import ACCOUNT, MAILBOX, NAME, ROOT, Bus, mailbox_path
from busdaemon import BusDaemon
from mail import message
from mailidled import Account, Daemon
from servers import Dovecot

FOLDER = TOP / "build/demo"
INBOX = mailbox_path("demo", "INBOX")
SUBJECT = "=?UTF-8?Q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?="
MATCH = f"type='signal',interface='{NAME}',member='NewMail'"
SECONDS = 30


def say(text=""):
    print(text, flush=True)


def typed(command):
    """A command as one would type it."""
    return "$ " + " ".join(f'"{word}"' if "'" in word else shlex.quote(word) for word in command)


def indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines())


class Subscriber:
    """busctl, as anybody would subscribe, and what it printed."""

    def __init__(self):
        self.command = ["busctl", "--user", "monitor", f"--match={MATCH}"]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # It says when it listens.
        first = self.process.stdout.readline()
        if not first.startswith("Monitoring"):
            raise RuntimeError(f"busctl: {first}{self.process.stdout.read()}")

    def next_message(self):
        """The next message, as printed (it ends with an empty line), or None."""
        lines = []
        # Whoever reads a pipe for ever is woken by its end.
        alarm = threading.Timer(SECONDS, self.process.terminate)
        alarm.start()
        try:
            for line in self.process.stdout:
                if lines and not line.strip():
                    return "".join(lines)
                if line.strip():
                    lines.append(line)
        finally:
            alarm.cancel()
        return None

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def ask(*words):
    """Runs a busctl command as a person would, and shows both sides."""
    command = ["busctl", "--user", *words]
    say(f"    {typed(command)}")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    say(indented(done.stdout))
    return done.returncode == 0


def show(server, user):
    """Delivers a mail and shows what a subscriber sees; returns whether it saw it."""
    with contextlib.closing(Subscriber()) as subscriber:
        say("3. A program subscribes:")
        say(f"    {typed(subscriber.command)}\n")
        mail = message(SUBJECT, sender="=?UTF-8?Q?J=C3=BCrgen?= <juergen@example.test>")
        say("4. A mail is delivered (LMTP). On the wire its subject is")
        say(f"    {SUBJECT}\n")
        began = time.monotonic()
        server.deliver(user, mail)
        seen = subscriber.next_message()
    if seen is None:
        say(f"No signal within {SECONDS} s.")
        return False
    # That is a constant of Dovecot's: changes that come together are told together.
    say(f"5. {(time.monotonic() - began) * 1000:.0f} ms later the subscriber has seen")
    say("   (500 ms of it Dovecot waits before it tells anybody in IDLE):")
    say(indented(seen))
    if "Grüße aus Köln" not in seen:
        say("The subject is missing.")
        return False
    return True


def keep(server, user, address):
    say("Everything runs on. In another terminal:\n")
    root = f"{NAME} {ROOT} {NAME}"
    for line in (
        f"export DBUS_SESSION_BUS_ADDRESS={shlex.quote(address)}",
        f'busctl --user monitor --match="{MATCH}"',
        f"busctl --user tree {NAME}",
        f"busctl --user introspect {NAME} {INBOX}",
        f"busctl --user get-property {NAME} {INBOX} {MAILBOX} State Messages Unread",
        f"busctl --user call {root} Refresh ss demo INBOX",
        f"busctl --user call {root} ListUnread ssu demo INBOX 10",
        f"busctl --user call {root} Fetch ssauas demo INBOX 1 1 2 envelope text",
    ):
        say(f"    {line}")
    say("\nEnter, here, delivers another mail; Ctrl-C ends and cleans up.")
    number = 1
    for _ in sys.stdin:
        number += 1
        server.deliver(user, message(f"Mail number {number}", body=f"This is number {number}.\r\n"))
        say(f'Delivered: "Mail number {number}".')
    signal.pause()


def end(daemon):
    """Where something went wrong, what it said is worth reading."""
    if daemon.process is not None:
        daemon.process.kill()
        daemon.wait()
        print(daemon.log, file=sys.stderr)


def run(options, stack):
    with locked(FOLDER):
        say(f"Building ({FOLDER.relative_to(TOP)}) ...")
        build(FOLDER, "--buildtype=release")
    os.environ["MAILIDLE_BUILD"] = str(FOLDER)
    place = stack.enter_context(temporary())

    server = stack.enter_context(Dovecot())
    user = server.user("jo")
    bus_daemon = BusDaemon(place.folder)
    stack.callback(bus_daemon.stop)
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus_daemon.address
    say(f"1. A mail server (Dovecot, {server.host}:{server.imaps}) and a session bus of our own.\n")

    bus = stack.enter_context(contextlib.closing(Bus(bus_daemon.address)))
    daemon = Daemon(place.folder, bus).configure(Account("demo", server, user))
    stack.callback(end, daemon)
    daemon.start()
    bus.wait_for_state("demo", "INBOX", "idle")
    say(f"2. mailidled watches the INBOX of {user}, by IMAP IDLE.\n")

    is_seen = show(server, user)
    say("6. And any program may ask:")
    is_answered = ask("get-property", NAME, INBOX, MAILBOX, "State", "Unread") and ask(
        "get-property", NAME, f"{ROOT}/demo", ACCOUNT, "TlsVersion"
    )
    if options.keep:
        with contextlib.suppress(KeyboardInterrupt):
            keep(server, user, bus_daemon.address)
        say()
    daemon.stop()
    return is_seen and is_answered


def main():
    parser = argparse.ArgumentParser(
        prog="tests/demo", description="Shows mailidle at work, in a temporary folder."
    )
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    options = parser.parse_args()
    # The subject is not ASCII, and busctl would escape it elsewhere.
    os.environ["LC_ALL"] = "C.UTF-8"
    sys.stdout.reconfigure(encoding="utf-8")
    # As Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            is_good = run(options, stack)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    say("All is cleaned up." if is_good else "That is not what should happen.")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
