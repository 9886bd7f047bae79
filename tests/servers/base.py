"""What the three servers have in common: a folder, ports, users, a client, start and stop."""

import base64
import contextlib
import ctypes
import imaplib
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
import typing

import secrecy

from . import ports
from .certificates import Certificates

BUILD = pathlib.Path(__file__).resolve().parent.parent.parent / "build"
PASSWORD = "pass-of-a-user"
START_SECONDS = 30
STOP_SECONDS = 20
PR_SET_CHILD_SUBREAPER = 36


class User(typing.NamedTuple):
    """Somebody with a mailbox. Where a name is asked for, the user itself will do."""

    name: str
    password: str

    def __str__(self):
        return self.name


class Server:
    """One running server. It survives a restart with its ports, its users and their mail."""

    software = None

    def __init__(self, certificates=None):
        reason = self.unavailable()
        if reason is not None:
            raise RuntimeError(reason)
        self.certificates = certificates or Certificates.shared()
        self.host = "localhost"
        self.ca = self.certificates.ca
        self.imap = ports.take()
        self.imaps = ports.take()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"mailidle-{self.software}-"))
        # Its processes change to users of their own.
        self.folder.chmod(0o755)
        self.log = self.folder / "server.log"
        self.process = None
        self._n_users = 0
        self._prepare()

    # What each server knows about itself.

    @classmethod
    def unavailable(cls):
        """Why this server cannot be started here, or None."""
        raise NotImplementedError

    def _prepare(self):
        """Writes the configuration."""
        raise NotImplementedError

    def _command(self):
        """The command that is the server, in the foreground."""
        raise NotImplementedError

    def _add_user(self, user, settings):
        raise NotImplementedError

    def deliver(self, user, message, mailbox="INBOX"):
        """Delivers a message (octets) as a mail system does; into other mailboxes by APPEND."""
        raise NotImplementedError

    def _ask_to_stop(self):
        self.process.terminate()

    prefix = ""
    delimiter = "/"

    # What they share.

    def start(self):
        """Starts it and returns when both ports have greeted."""
        assert self.process is None
        with open(self.log, "ab") as log:
            # A session of its own: Cyrus ends by a signal to its whole process group.
            self.process = subprocess.Popen(
                [str(word) for word in self._command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        try:
            self._await_greeting(self.imap, deadline, tls=False)
            self._await_greeting(self.imaps, deadline, tls=True)
        except BaseException:
            self.stop()
            raise
        return self

    def _await_greeting(self, port, deadline, tls):
        context = self.certificates.client_context()
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    if tls:
                        connection = context.wrap_socket(connection, server_hostname=self.host)
                    with connection:
                        if connection.recv(4) == b"* OK":
                            return
            except ssl.SSLCertVerificationError:
                raise
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.software} did not start:\n{self.read_log()}")
            # Somebody else's program: nothing but its port says that it is there.
            time.sleep(0.02)

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self._ask_to_stop()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            self.process.stdin.close()
            self.process = None

    def kill(self):
        """Ends all of it as a power cut does; returns when nothing of it is left."""
        # What it started becomes ours, so that we can take notice of its end. A process of which
        # nobody has seems to live, and Dovecot would wait two minutes for a lock of such a one.
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
        group = self.process.pid
        os.killpg(group, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process = None
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-group, 0)

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """Stops it and forgets everything."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            for port in self._ports():
                ports.give_back(port)

    def _ports(self):
        return [self.imap, self.imaps]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def read_log(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def user(self, name=None, password=PASSWORD, **settings):
        """A new user with an empty mailbox; without a name, one that nobody has."""
        if name is None:
            self._n_users += 1
            name = f"user{self._n_users}"
        user = User(f"{name}@example.test", password)
        secrecy.register(password, user)
        self._add_user(user, settings)
        return user

    def mailbox(self, *names):
        """What a mailbox other than INBOX is called here: mailbox("Lists", "dev")."""
        return self.prefix + self.delimiter.join(names)

    def client(self, user, starttls=False):
        """An imaplib connection, logged in: the other client, which appends, flags and expunges."""
        context = self.certificates.client_context()
        if starttls:
            client = imaplib.IMAP4(self.host, self.imap, timeout=30)
            client.starttls(context)
        else:
            client = imaplib.IMAP4_SSL(self.host, self.imaps, ssl_context=context, timeout=30)
        client.login(user.name, user.password)
        return client

    def append(self, user, message, mailbox="INBOX", flags=None):
        """Puts a message (octets) where another client would; makes the mailbox if need be."""
        with self.client(user) as client:
            status, answer = client.append(quote(mailbox), flags, None, message)
            if status != "OK":
                client.create(quote(mailbox))
                status, answer = client.append(quote(mailbox), flags, None, message)
            if status != "OK":
                raise RuntimeError(f"APPEND to {mailbox}: {answer}")

    def _deliver_by_lmtp(self, port, user, message, mailbox):
        if mailbox != "INBOX":
            self.append(user, message, mailbox)
            return
        with smtplib.LMTP("127.0.0.1", port) as lmtp:
            lmtp.sendmail("sender@example.test", [user.name], message)

    def _fill_in(self, template, **values):
        """Writes a configuration from the template beside this file, and returns its path."""
        text = (pathlib.Path(__file__).parent / template).read_text()
        values = {"folder": self.folder, "imap": self.imap, "imaps": self.imaps, **values}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.folder / template
        path.write_text(text)
        return path


def quote(mailbox):
    """A mailbox name for imaplib, which quotes nothing itself: modified UTF-7, RFC 3501 5.1.3."""

    def shift(match):
        octets = base64.b64encode(match[0].encode("utf-16-be"), b"+,")
        return "&" + octets.rstrip(b"=").decode() + "-"

    name = re.sub(r"[^\x20-\x7e]+", shift, mailbox.replace("&", "&-"))
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def needs_root():
    return None if os.geteuid() == 0 else "needs root"


def needs_programs(*paths):
    for path in paths:
        if not os.access(path, os.X_OK):
            return f"{path} is missing: tests/install-packages tests"
    return None
