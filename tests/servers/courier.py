"""Courier: few extensions, IDLE by looking now and then, INBOX. before every name. Root only."""

import functools
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

from .base import BUILD, Server, needs_programs, needs_root

UNPACKED = BUILD / "servers/courier/root"
NAMESPACES = ["/usr/bin/unshare", "--mount", "--pid", "--fork"]
PLAIN = (
    "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"
)


class Courier(Server):
    """idle_poll: every so many seconds IDLE looks into the mailbox."""

    software = "courier"

    def __init__(self, certificates=None, idle_poll=1, capability=PLAIN):
        self._idle_poll = idle_poll
        self._capability = capability
        self._n_delivered = 0
        self._secrets = {}
        super().__init__(certificates)

    @classmethod
    def unavailable(cls):
        return needs_root() or needs_programs(
            UNPACKED / "usr/bin/imapd",
            "/usr/sbin/couriertcpd",
            "/usr/bin/couriertls",
            "/usr/sbin/makeuserdb",
            "/usr/lib/courier/courier-authlib/authdaemond",
            *NAMESPACES[:1],
        ) or cls._needs_namespaces()

    @staticmethod
    @functools.cache
    def _needs_namespaces():
        # Root in a container may lack the right to make them.
        done = subprocess.run([*NAMESPACES, "true"], stderr=subprocess.DEVNULL)
        return None if done.returncode == 0 else "needs mount and PID namespaces"

    def _prepare(self):
        courier = pwd.getpwnam("courier")
        for name in ("etc", "run", "run/authdaemon", "mail"):
            (self.folder / name).mkdir()
        for name in ("run", "run/authdaemon"):
            os.chown(self.folder / name, courier.pw_uid, courier.pw_gid)
        # The user mail must reach it, and the build folder may lie in somebody's home.
        for name in ("usr/bin/imapd", "usr/lib/courier/courier/imaplogin"):
            (self.folder / "root" / name).parent.mkdir(parents=True)
            shutil.copy(UNPACKED / name, self.folder / "root" / name)
        etc = self.folder / "etc"
        certificate = etc / "imapd.pem"
        certificate.touch(0o600)
        certificate.write_bytes(
            self.certificates.key.read_bytes() + self.certificates.chain.read_bytes()
        )
        os.chown(certificate, courier.pw_uid, courier.pw_gid)
        (etc / "authdaemonrc").write_text(
            'authmodulelist="authuserdb"\n'
            'authmodulelistorig="authuserdb"\n'
            "daemons=2\n"
            "authdaemonvar=/run/courier/authdaemon\n"
            "DEBUG_LOGIN=0\n"
            'DEFAULTOPTIONS=""\n'
        )
        (etc / "userdb").touch(0o600)
        self._make_userdb()
        (self.folder / "environment").write_text(
            f'IMAP_CAPABILITY="{self._capability} AUTH=CRAM-MD5"\n'
            f'IMAP_CAPABILITY_TLS="{self._capability} AUTH=CRAM-MD5 AUTH=PLAIN"\n'
            f'IMAP_CAPABILITY_ORIG="{self._capability}"\n'
            f'IMAP_CAPABILITY_TLS_ORIG="{self._capability} AUTH=PLAIN"\n'
            "IMAP_KEYWORDS=1\n"
            "IMAP_ACL=0\n"
            f"IMAP_IDLE_TIMEOUT={self._idle_poll}\n"
            "IMAP_ENHANCEDIDLE=0\n"
            "IMAP_USELOCKS=1\n"
            "IMAP_MAILBOX_SANITY_CHECK=1\n"
            "IMAP_UMASK=022\n"
            "IMAP_TRASHFOLDERNAME=Trash\n"
            "IMAP_EMPTYTRASH=\n"
            "IMAPDSTART=YES\n"
            "IMAPDSTARTTLS=YES\n"
            "IMAP_TLS_REQUIRED=0\n"
            "TLS_CERTFILE=/etc/courier/imapd.pem\n"
            "TLS_VERIFYPEER=NONE\n"
            "COURIERTLS=/usr/bin/couriertls\n"
        )

    def _command(self):
        script = pathlib.Path(__file__).with_name("courier.sh")
        return [
            *NAMESPACES,
            *("/bin/sh", script, self.folder, self.imap, self.imaps),
        ]

    prefix = "INBOX."
    delimiter = "."

    def _ask_to_stop(self):
        self.process.stdin.close()

    def _make_userdb(self):
        subprocess.run(["makeuserdb", "-f", self.folder / "etc/userdb"], check=True)

    def _secret(self, password, kind):
        """A password as userdb keeps it; the work is done once for each password."""
        key = password, kind
        if key not in self._secrets:
            done = subprocess.run(
                ["userdbpw", f"-{kind}"],
                input=f"{password}\n{password}\n",
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._secrets[key] = done.stdout.split()[-1]
        return self._secrets[key]

    def _maildir(self, user, mailbox):
        maildir = self.folder / "mail" / str(user) / "Maildir"
        if mailbox == "INBOX":
            return maildir
        return maildir / ("." + mailbox.removeprefix("INBOX."))

    def _make_maildir(self, path, mail):
        for name in ("", "tmp", "new", "cur"):
            (path / name).mkdir(mode=0o700, parents=True)
            os.chown(path / name, mail.pw_uid, mail.pw_gid)

    def _add_user(self, user, settings):
        assert not settings
        mail = pwd.getpwnam("mail")
        maildir = self._maildir(user, "INBOX")
        self._make_maildir(maildir, mail)
        os.chown(maildir.parent, mail.pw_uid, mail.pw_gid)
        fields = {
            "uid": mail.pw_uid,
            "gid": mail.pw_gid,
            "home": maildir.parent,
            "mail": maildir,
            "systempw": self._secret(user.password, "md5"),
            "hmac-md5pw": self._secret(user.password, "hmac-md5"),
        }
        line = "|".join(f"{name}={value}" for name, value in fields.items())
        with open(self.folder / "etc/userdb", "a") as userdb:
            userdb.write(f"{user.name}\t{line}\n")
        self._make_userdb()

    def deliver(self, user, message, mailbox="INBOX"):
        """As a delivery agent does with a Maildir: written in tmp, then moved to new."""
        maildir = self._maildir(user, mailbox)
        mail = pwd.getpwnam("mail")
        if not maildir.exists():
            self._make_maildir(maildir, mail)
            (maildir / "maildirfolder").touch()
        self._n_delivered += 1
        now = time.time_ns()
        name = f"{now // 10**9}.M{now // 1000 % 10**6}P{os.getpid()}Q{self._n_delivered}"
        temporary = maildir / "tmp" / f"{name}.{socket.gethostname()}"
        temporary.write_bytes(message.replace(b"\r\n", b"\n"))
        os.chown(temporary, mail.pw_uid, mail.pw_gid)
        temporary.rename(maildir / "new" / temporary.name)
