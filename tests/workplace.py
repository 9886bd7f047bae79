"""Where tests and demo work: a build folder, a temporary folder, no process that outlives them."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import types

TOP = pathlib.Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36


class BuildError(Exception):
    pass


def run_silently(command):
    """Shows what it said only when it fails."""
    done = subprocess.run(
        command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        sys.stdout.buffer.write(done.stdout)
        sys.stdout.flush()
        raise BuildError(f"failed: {' '.join(map(str, command))}")


@contextlib.contextmanager
def locked(folder):
    """One at a time in a build folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(folder, *options):
    """Configures the folder if it is new, and compiles."""
    if not (folder / "build.ninja").exists():
        run_silently(["meson", "setup", folder, *options])
    run_silently(["meson", "compile", "-C", folder])


def _children():
    """Our children that still run: (pid, name)."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, fields = (entry / "stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue
        state, parent = fields.split()[:2]
        if int(parent) == os.getpid() and state != "Z":
            found.append((int(entry.name), name))
    return found


def _reap():
    """Takes notice of every child that has ended; returns whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def end_leftovers(grace=3):
    """Ends every process that is left of what we started; returns the names of those that had to be
    ended after so many seconds.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    deadline = time.monotonic() + grace
    while _reap():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        signal.sigtimedwait([signal.SIGCHLD], remaining)
    ended = []
    # The children of what is killed here become ours in turn.
    while _reap():
        for pid, name in _children():
            ended.append(name)
            os.kill(pid, signal.SIGKILL)
        signal.sigtimedwait([signal.SIGCHLD], 0.1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return ended


@contextlib.contextmanager
def temporary():
    """A folder that TMPDIR names meanwhile; afterwards it and all processes are gone.

    Orphans become our children, so that none escapes. Yields the place: its folder, and afterwards
    the names of the processes that nobody had ended.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    with tempfile.TemporaryDirectory(prefix="mailidle-", ignore_cleanup_errors=True) as name:
        place = types.SimpleNamespace(folder=pathlib.Path(name), left_behind=[])
        # Servers that become other users work below it.
        place.folder.chmod(0o711)
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = tempfile.tempdir = name
        try:
            yield place
        finally:
            place.left_behind = end_leftovers()
            tempfile.tempdir = None
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
