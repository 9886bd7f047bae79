"""What others of the same user can read of mailidle, and what of a secret is left in its memory."""

import ctypes
import os
import re
import subprocess
import sys

import pytest
import secrecy
from mailidled import Account, build_folder

NOBODY = 65534
PASSWORD = "Zq8xVw93-LmPk7RtY"
# Attaching as a debugger does: PTRACE_SEIZE, which does not stop it.
PEEK = """
import ctypes, sys
pid = int(sys.argv[1])
for name in ("mem", "environ", "maps", "auxv", "fd/0"):
    try:
        open(f"/proc/{pid}/{name}", "rb").read(0 if name == "mem" else 16)
        print(name)
    except OSError as error:
        print(f"-{name}")
libc = ctypes.CDLL(None, use_errno=True)
print("ptrace" if libc.ptrace(0x4206, pid, 0, 0) == 0 else "-ptrace")
"""


def peek(pid):
    """What an ordinary user can do to a process of his own: its name, or "-" and its name."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        [sys.executable, "-c", PEEK, str(pid)], check=True, capture_output=True, text=True, **user
    )
    return set(done.stdout.split())


def test_nobody_reads_its_memory(new_daemon, bus):
    """As it is installed: no memory, no environment, no debugger, for its own user neither; and no
    core dump. An ordinary program of that user has its environment read, so the look is a good
    one."""
    closed = build_folder() / "mailidled-closed"
    daemon = new_daemon({"ASAN_OPTIONS": "detect_leaks=0"})
    if closed.exists():
        daemon.program = closed
    daemon.is_traced = False
    daemon.configure()
    if os.geteuid() == 0:
        daemon.prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        daemon.program = copy_for_nobody(daemon)
    daemon.start()
    ordinary = subprocess.Popen(
        [*daemon.prefix, "sleep", "60"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        bus.wait(lambda: comm(ordinary.pid) == "sleep", what="sleep")
        assert "environ" in peek(ordinary.pid)
        assert comm(daemon.process.pid).startswith("mailidled")
        assert peek(daemon.process.pid) == {
            "-mem", "-environ", "-maps", "-auxv", "-fd/0", "-ptrace"
        }
        limits = open(f"/proc/{daemon.process.pid}/limits").read() if os.geteuid() == 0 else ""
        assert not limits or re.search(r"Max core file size\s+0\s+0", limits)
    finally:
        ordinary.kill()
        ordinary.wait()


def comm(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def copy_for_nobody(daemon):
    """The program and its folders, where another user reaches them."""
    copy = daemon.folder / "mailidled"
    copy.write_bytes(daemon.program.read_bytes())
    copy.chmod(0o755)
    daemon.folder.parent.chmod(0o755)
    subprocess.run(["chown", "-R", str(NOBODY), daemon.folder], check=True)
    return copy


def found_in(pid, forms):
    """The names of the forms that stand in memory that the process can write."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            first, last = (int(number, 16) for number in span.split("-"))
            # The sanitizer's shadow is empty for terabytes.
            if not mode.startswith("rw") or last - first > 1 << 36:
                continue
            for start in range(first, last, 1 << 24):
                try:
                    memory.seek(start)
                    octets = memory.read(min((1 << 24) + 256, last - start))
                except OSError:
                    continue
                found |= {name for name, form in forms.items() if form in octets}
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="the memory of others is read by root")
@pytest.mark.parametrize("secret", ["password-file", "password-command"])
@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN", "login", "CRAM-MD5", "SCRAM-SHA-256"])
def test_no_password_is_left_in_memory(daemon, bus, dovecot, auth, secret):
    """Neither itself nor in base64, after the login, in what is allocated or was."""
    user = dovecot.user(password=PASSWORD)
    running = daemon(Account("work", dovecot, user, secret=secret, options={"auth": auth}))
    bus.wait_for_state("work", "INBOX")
    forms = {"user": user.name.encode(), **secrecy.forms(user, PASSWORD)}
    assert found_in(running.process.pid, forms) == {"user"}


@pytest.mark.skipif(os.geteuid() != 0, reason="the memory of others is read by root")
@pytest.mark.parametrize("auth", ["XOAUTH2", "OAUTHBEARER"])
def test_no_token_is_left_in_memory(daemon, bus, dovecot, folder, auth):
    user = dovecot.user()
    token = dovecot.token(user)
    (folder / "token").write_text(token)
    options = {"auth": auth, "token_command": f"cat {folder}/token"}
    running = daemon(Account("work", dovecot, user, secret=None, options=options))
    bus.wait_for_state("work", "INBOX")
    forms = {"user": user.name.encode(), **secrecy.forms(user, token)}
    assert found_in(running.process.pid, forms) == {"user"}


@pytest.mark.parametrize("form", ["plain", "quoted", "PLAIN", "base64-0", "base64-1", "base64-2"])
def test_the_search_of_the_whole_run_finds(tmp_path, monkeypatch, form):
    monkeypatch.setenv("MAILIDLE_RECORDS", str(tmp_path))
    secrecy.keep("log", "nothing is known yet")
    secrecy.register("pass \"word\\-1", "jo")
    secrecy.register("short", "jo")
    secrecy.keep("log", "user jo, shortly")
    assert secrecy.search(tmp_path) == []
    octets = secrecy.forms("jo", 'pass "word\\-1')[form]
    secrecy.keep("trace", f"C: A1 LOGIN jo {octets.decode()} .")
    assert any(find[2] == form for find in secrecy.search(tmp_path))
