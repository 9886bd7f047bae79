"""The unit as it is installed, under a service manager of an ordinary user."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import threading

import pytest
from busclient import Bus
from busdaemon import CONFIGURATION
from mailidled import TOP, Account, program
from scripted import Server, Session

UID = 65534
# Where a manager looks: the one of today, or both of the time between.
HIERARCHIES = [
    pathlib.Path("/sys/fs/cgroup") / each for each in ("", "unified", "systemd")
]

DRIVER = {
    "destination": "org.freedesktop.DBus",
    "path": "/org/freedesktop/DBus",
    "interface": "org.freedesktop.DBus",
}

# What the password command tries: each line is a name and a command that has to fail in the cage,
# or ("can") has to work.
PROBES = """
cannot-write-home      touch "$HOME/.bashrc"
cannot-write-config    touch "$HOME/.config/mailidle/other"
cannot-write-system    touch /usr/bin/other /etc/other
cannot-see-tmp         test -e "{seen}"
cannot-become          unshare --user true
cannot-mount           mount -t tmpfs none /mnt
cannot-trace           python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0))'
cannot-set-uid         python3 -c 'import os; os.setuid(os.getuid())'
cannot-chmod-setuid    sh -c 'cp /bin/true ~/.gnupg/true && chmod u+s ~/.gnupg/true'
cannot-sniff           python3 -c 'import socket; socket.socket(socket.AF_PACKET)'
cannot-personality     setarch -R true
cannot-devices         test -e /dev/kmsg
cannot-notify          test -n "$NOTIFY_SOCKET"
can-write-gnupg        touch "$HOME/.gnupg/lock"
can-write-runtime      touch "$XDG_RUNTIME_DIR/socket"
can-write-state        touch "$HOME/.local/state/mailidle/probe"
can-compile            python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'
can-connect            python3 -c 'import socket; socket.socket(socket.AF_INET6)'
"""


@pytest.fixture
def cgroups():
    """One in each hierarchy, that a manager can have for itself."""
    found = [each for each in HIERARCHIES if (each / "cgroup.procs").exists()]
    if os.geteuid() != 0 or not found:
        pytest.skip("a service manager of another user is made by root alone")
    made = [each / f"mailidle-test-{os.getpid()}" for each in found]
    try:
        for path in made:
            path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield made
    for path in made:
        for each, _, _ in os.walk(path, topdown=False):
            pathlib.Path(each).rmdir()


@pytest.fixture
def far_bus(folder):
    """A bus without a file, to be reached where /tmp is another."""
    configuration = folder / "bus.conf"
    text = CONFIGURATION.format(kind="session", socket="")
    address = f"unix:abstract=mailidle-test-bus-{os.getpid()}"
    configuration.write_text(text.replace("unix:path=", address))
    read, write = os.pipe()
    process = subprocess.Popen(
        ["dbus-daemon", f"--config-file={configuration}", "--nofork", f"--print-address={write}"],
        pass_fds=[write],
        stdin=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        pipe.readline()
    client = Bus(address)
    yield client
    client.close()
    process.terminate()
    process.wait()


def probing(seen):
    """A password command that says what it could do, and where gpg is there, asks gpg."""
    lines = ["#!/bin/sh", 'exec 3>"$XDG_RUNTIME_DIR/said.new"']
    for line in PROBES.format(seen=seen).strip().splitlines():
        name, command = line.split(maxsplit=1)
        lines.append(f"if {command} >/dev/null 2>&1; then echo '{name} yes' >&3")
        lines.append(f"else echo '{name} no' >&3; fi")
    lines.append("grep -E '^(NoNewPrivs|Seccomp|Max core)' /proc/self/status /proc/self/limits >&3")
    lines.append('cat "$XDG_RUNTIME_DIR/said.new" >"$HOME/.gnupg/said"')
    lines.append("gpg --batch --quiet --decrypt ~/.password.gpg" if has_gpg() else "cat ~/.password")
    return "\n".join([*lines, ""])


def has_gpg():
    return shutil.which("gpg") is not None


def encrypt(home, password):
    """~/.password.gpg, and the key without a passphrase that opens it."""
    (home / ".gnupg").mkdir(mode=0o700)
    if not has_gpg():
        (home / ".password").write_text(password + "\n")
        return
    gpg = ["gpg", "--homedir", home / ".gnupg", "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-gen-key", "jo", "default", "default"], check=True)
    subprocess.run(
        [*gpg, "--trust-model", "always", "--recipient", "jo", "--encrypt"],
        check=True,
        input=(password + "\n").encode(),
        stdout=(home / ".password.gpg").open("wb"),
    )
    subprocess.run(["gpgconf", "--homedir", home / ".gnupg", "--kill", "all"], check=True)


def furnish(home, server, bus, seen):
    """A home with the unit, a configuration, and a command for the password."""
    home.mkdir(mode=0o700)
    units = home / ".config/systemd/user"
    units.mkdir(parents=True)
    (home / "bin").mkdir()
    shutil.copy(program("mailidled"), home / "bin/mailidled")
    unit = (TOP / "dbus/mailidled.service.in").read_text()
    (units / "mailidled.service").write_text(unit.replace("@mailidled@", "/home/jo/bin/mailidled"))
    drop_in = units / "mailidled.service.d"
    drop_in.mkdir()
    # The leak detector would trace.
    (drop_in / "test.conf").write_text(
        "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n"
        f"Environment=DBUS_SESSION_BUS_ADDRESS={bus.address}\nStandardError=append:/home/jo/log\n"
    )
    encrypt(home, server.user.password)
    command = home / "bin/password"
    command.write_text(probing(seen))
    command.chmod(0o700)
    configuration = home / ".config/mailidle/mailidle.conf"
    configuration.parent.mkdir()
    options = {"password_command": "/home/jo/bin/password"}
    account = Account("work", server, server.user, security="plain", secret=None, options=options)
    configuration.write_text(account.text(home))
    configuration.chmod(0o600)
    os.mkfifo(home / "fifo")


def test_the_cage_bites_and_lets_commands_work(cgroups, far_bus, folder):
    """What the daemon and its commands must not do fails, what gpg needs works, and the account
    idles with the password that gpg gave."""
    with Server() as server:
        server.serve(lambda wire: Session(wire).greet().answer_until())
        material = folder / "home"
        furnish(material, server, far_bus, folder)
        caged = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            + [str(TOP / "tests/daemon/cage.sh"), str(material), str(UID), *map(str, cgroups)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        told = []
        reader = threading.Thread(target=lambda: told.extend(caged.stdout))
        reader.start()
        try:
            far_bus.wait(lambda: far_bus.owner or caged.poll() is not None, 40, "mailidled")
            far_bus.wait_for_state("work", "INBOX")
            pid = far_bus.call("GetConnectionUnixProcessID", "s", far_bus.owner, **DRIVER)
            root = pathlib.Path(f"/proc/{pid}/root")
            said = (root / "home/jo/.gnupg/said").read_text()
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        finally:
            with contextlib.suppress(OSError), open(
                os.open(material / "fifo", os.O_WRONLY | os.O_NONBLOCK), "w"
            ) as fifo:
                fifo.write("stop\n")
            try:
                caged.wait(30)
            except subprocess.TimeoutExpired:
                caged.kill()
            reader.join()
            print("".join(told))
    print(said)
    answers = dict(line.split() for line in said.splitlines() if line.endswith((" yes", " no")))
    assert len(answers) == len(PROBES.strip().splitlines())
    wrong = {
        name for name, answer in answers.items() if (answer == "yes") != name.startswith("can-")
    }
    assert not wrong
    for text in (said, status):
        assert "NoNewPrivs:\t1" in text and "Seccomp:\t2" in text
    assert "Result=success\n" in told
