"""Cyrus: OBJECTID, QRESYNC, few capabilities before login, pushes at once. Root only."""

import pathlib
import shutil
import subprocess

from . import ports
from .base import BUILD, Server, needs_programs, needs_root

COMMON = pathlib.Path("/usr/lib/cyrus/bin")
UNPACKED = BUILD / "servers/cyrus/root/usr/lib/cyrus/bin"


class Cyrus(Server):
    """Root, because its master becomes the user cyrus, whom only root can become.

    settings: lines of imapd.conf that overrule ours ("tls_versions: tls1_2").
    """

    software = "cyrus"

    def __init__(self, certificates=None, settings=""):
        self._settings = settings
        self.lmtp = ports.take()
        super().__init__(certificates)

    @classmethod
    def _programs(cls):
        """Where imapd is: beside the rest when the package is installed, else unpacked by us."""
        return COMMON if (COMMON / "imapd").exists() else UNPACKED

    @classmethod
    def unavailable(cls):
        return needs_root() or needs_programs(
            COMMON / "master", cls._programs() / "imapd", "/usr/sbin/saslpasswd2"
        )

    def _ports(self):
        return super()._ports() + [self.lmtp]

    def _prepare(self):
        for name in ("db", "socket", "log", "msg", "user", "quota", "sieve"):
            (self.folder / "conf" / name).mkdir(parents=True)
        for name in ("spool", "proc", "lock", "sock", "tls"):
            (self.folder / name).mkdir()
        shutil.copy(self.certificates.chain, self.folder / "tls/chain.pem")
        shutil.copy(self.certificates.key, self.folder / "tls/srv.key")
        path = self._fill_in("imapd.conf")
        overruled = {line.partition(":")[0] for line in self._settings.splitlines()}
        kept = [
            line
            for line in path.read_text().splitlines()
            if line.partition(":")[0] not in overruled
        ]
        path.write_text("\n".join([*kept, self._settings, ""]))
        programs = self._programs()
        # The user cyrus must reach them, and the build folder may lie in somebody's home.
        if programs == UNPACKED:
            programs = self.folder / "programs"
            shutil.copytree(UNPACKED, programs)
        self._fill_in("cyrus.conf", lmtp=self.lmtp, programs=programs)
        self._save_password("cyrus", "secret")
        subprocess.run(["chown", "-R", "cyrus:mail", self.folder], check=True)

    def _command(self):
        return [
            COMMON / "master",
            *("-C", self.folder / "imapd.conf"),
            *("-M", self.folder / "cyrus.conf"),
            *("-p", self.folder / "master.pid"),
        ]

    def _save_password(self, name, password):
        # The realm is the name of the server: Cyrus strips the default domain from the login.
        subprocess.run(
            ["saslpasswd2", "-p", "-c", "-f", self.folder / "sasldb2", "-u", "localhost", name],
            input=password.encode(),
            check=True,
        )

    def _add_user(self, user, settings):
        assert not settings
        self._save_password(user.name.partition("@")[0], user.password)

    def deliver(self, user, message, mailbox="INBOX"):
        self._deliver_by_lmtp(self.lmtp, user, message, mailbox)
