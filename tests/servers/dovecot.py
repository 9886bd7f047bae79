"""Dovecot: NOTIFY, QRESYNC, PREVIEW, METADATA, every SASL mechanism and OAuth. Root or not."""

import base64
import contextlib
import grp
import hashlib
import hmac
import json
import os
import pathlib
import pwd
import signal
import subprocess
import time

import secrecy

from . import ports
from .base import Server, User, needs_programs

TOKEN_KEY = b"testkeytestkeytestkeytestkeytest"


class Dovecot(Server):
    """capability: what it says it can do after login, instead of all that it can.
    settings: lines of dovecot.conf that overrule ours ("mail_max_userip_connections = 2").
    """

    software = "dovecot"

    def __init__(self, certificates=None, capability=None, settings=""):
        self.lmtp = ports.take()
        self._capability = capability
        self._settings = settings
        super().__init__(certificates)

    @classmethod
    def unavailable(cls):
        return needs_programs("/usr/sbin/dovecot", "/usr/lib/dovecot/lmtp")

    def _ports(self):
        return super()._ports() + [self.lmtp]

    def _prepare(self):
        for name in ("run", "state", "mail", "passdb", "userdb", "jwt/default/HS256"):
            (self.folder / name).mkdir(parents=True)
        if os.geteuid() == 0:
            owners = ("dovecot", "dovecot", "dovenull", "mail", "mail")
            mail = pwd.getpwnam("mail")
            os.chown(self.folder / "mail", mail.pw_uid, mail.pw_gid)
        else:
            user = pwd.getpwuid(os.geteuid()).pw_name
            group = grp.getgrgid(os.getegid()).gr_name
            owners = (user, group, user, user, group)
        self._fill_in(
            "dovecot.conf",
            **dict(
                zip(
                    ("internal_user", "internal_group", "login_user", "mail_user", "mail_group"),
                    owners,
                )
            ),
            lmtp=self.lmtp,
            chain=self.certificates.chain,
            key=self.certificates.key,
            settings=self._settings,
            capability=f"imap_capability = {self._capability}" if self._capability else "",
        )
        (self.folder / "users.conf.ext").write_text(
            f"uri = fs:posix:prefix={self.folder}/\n"
            "key passdb {\n  key = passdb/%u\n  format = json\n}\n"
            "key userdb {\n  key = userdb/%u\n  format = json\n}\n"
            "passdb_objects = passdb\n"
            "userdb_objects = userdb\n"
        )
        (self.folder / "oauth2.conf.ext").write_text(
            "introspection_mode = local\n"
            f"local_validation_key_dict = fs:posix:prefix={self.folder}/jwt/\n"
            "username_attribute = email\n"
            "username_format = %u\n"
        )
        (self.folder / "jwt/default/HS256/default").write_bytes(base64.b64encode(TOKEN_KEY))

    def _command(self):
        return ["dovecot", "-F", "-c", self.folder / "dovecot.conf"]

    def _add_user(self, user, settings):
        """Settings: those of a session, for this user alone (imap_capability="IMAP4rev1 IDLE")."""
        home = self.folder / "mail" / user.name
        own = {"home": str(home), **settings}
        self._write("userdb", user.name, own)
        self._write(
            "passdb",
            user.name,
            {
                "password": "{PLAIN}" + user.password,
                **{f"userdb_{name}": own[name] for name in own},
            },
        )

    def _write(self, database, name, entry):
        path = self.folder / database / name
        new = path.with_name(f".{name}.new")
        new.write_text(json.dumps(entry))
        new.replace(path)

    def user_without(self, *words):
        """A user whose sessions lack these capabilities: user_without("NOTIFY")."""
        user = self.user()
        with self.client(user) as client:
            known = client.capability()[1][0].decode().split()
        assert set(words) <= set(known)
        left = " ".join(word for word in known if word not in words)
        self.set_session(user, imap_capability=left)
        return user

    def set_session(self, user, **settings):
        """Settings of this user's sessions from now on, instead of those before."""
        self._add_user(user, settings)

    def set_password(self, user, password):
        """From now on; returns the user with the new password."""
        entry = json.loads((self.folder / "passdb" / user.name).read_text())
        self._write("passdb", user.name, {**entry, "password": "{PLAIN}" + password})
        return User(user.name, secrecy.register(password, user))

    def token(self, user, seconds=600):
        """An OAuth 2.0 access token that lives for so many seconds (negative: expired already)."""

        def encode(octets):
            return base64.urlsafe_b64encode(octets).rstrip(b"=")

        now = int(time.time())
        header = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        claims = {
            "sub": str(user),
            "email": str(user),
            "iat": now - 1,
            "nbf": now - 1,
            "exp": now + seconds,
        }
        signed = header + b"." + encode(json.dumps(claims).encode())
        mac = hmac.new(TOKEN_KEY, signed, hashlib.sha256).digest()
        return secrecy.register((signed + b"." + encode(mac)).decode(), user)

    def deliver(self, user, message, mailbox="INBOX"):
        self._deliver_by_lmtp(self.lmtp, user, message, mailbox)

    def doveadm(self, *arguments):
        """Dovecot's own tool on this instance: doveadm("kick", user.name)."""
        command = ["doveadm", "-c", self.folder / "dovecot.conf", *arguments]
        done = subprocess.run(
            [str(word) for word in command], check=True, capture_output=True, text=True
        )
        return done.stdout

    def processes(self, name):
        """Its processes of that name (imap: a session each, imap-login, lmtp, ...), by age."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                own_name, _, fields = stat.partition(" (")[2].rpartition(") ")
                if own_name == name and int(fields.split()[1]) == self.process.pid:
                    found.append(int(entry.name))
        return sorted(found)

    def kill(self):
        super().kill()
        self.break_locks(0)

    def kill_process(self, pid):
        """A single one of processes(), which may have ended already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.break_locks(0.5)

    def break_locks(self, seconds):
        """Removes the files that were locks of the killed: none lives for so long. Dovecot itself
        does so after two minutes, and gives no answer until then.
        """

        def locks():
            found = {}
            for path in (self.folder / "mail").rglob("dovecot-*.lock"):
                with contextlib.suppress(FileNotFoundError):
                    found[path] = path.stat().st_ino
            return found

        before = locks()
        if before:
            time.sleep(seconds)
            for path, inode in locks().items():
                if before.get(path) == inode:
                    path.unlink(missing_ok=True)

    def preauth_command(self, user):
        """A shell command whose standard input and output are an authenticated IMAP session."""
        return f"doveadm -c {self.folder}/dovecot.conf exec imap -u {user}"
