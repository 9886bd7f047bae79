"""The daemon as tests run it: its configuration, its life and its last words."""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import secrecy

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
START_SECONDS = 20
STOP_SECONDS = 2
# What the sanitizers take to look for leaks when all else is done.
LEAK_SECONDS = 10
COMPLAINT = re.compile(r"ERROR: \w*Sanitizer|runtime error:|SUMMARY: \w*Sanitizer")


def build_folder():
    return TOP / os.environ.get("MAILIDLE_BUILD", "build")


def program(name):
    path = build_folder() / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built (MAILIDLE_BUILD names the build folder)")
    return path


def value(thing):
    """A value in libconfuse's syntax. In single quotes nothing is expanded."""
    if isinstance(thing, bool):
        return "true" if thing else "false"
    if isinstance(thing, int):
        return str(thing)
    if isinstance(thing, (list, tuple)):
        return "{ " + ", ".join(value(item) for item in thing) + " }"
    return "'" + str(thing).replace("\\", "\\\\").replace("'", "\\'") + "'"


def section(title, options):
    lines = [f"\t{name.replace('_', '-')} = {value(thing)}" for name, thing in options.items()]
    return "\n".join([title + " {", *lines, "}", ""])


@dataclasses.dataclass
class Account:
    """An account section for a user of a server (anything with host, imap, imaps and ca).

    secret is the option that the password comes by, None for none at all. Further options by name:
    options={"idle_timeout": "5s"}; they overrule what server and user give (None: not at all).
    """

    name: str
    server: object
    user: object
    mailboxes: tuple = ("INBOX",)
    security: str = "tls"
    secret: str = "password-file"
    options: dict = dataclasses.field(default_factory=dict)

    def text(self, folder):
        """The section; the password goes into a file in the folder."""
        options = {
            "host": self.server.host,
            "port": self.server.imaps if self.security == "tls" else self.server.imap,
            "security": self.security,
            "user": str(self.user),
            "mailboxes": self.mailboxes,
        }
        if self.security != "plain":
            options["ca-file"] = self.server.ca
        secret = folder / f"{self.name}.secret"
        secret.touch(0o600)
        if self.secret == "token-command":
            word = self.server.token(self.user)
        else:
            word = getattr(self.user, "password", None)
        if word is not None:
            secrecy.register(word, self.user)
        if self.secret is not None:
            secret.write_text(word + "\n")
        if self.secret == "password-file":
            options[self.secret] = secret
        elif self.secret is not None:
            options[self.secret] = f"cat {secret}"
        options |= {name.replace("_", "-"): thing for name, thing in self.options.items()}
        options = {name: thing for name, thing in options.items() if thing is not None}
        return section(f"account {value(self.name)}", options)


class Daemon:
    """configure() and start(); afterwards stop(), which proves that it ends well.

    bus: a Bus on the same session bus, by which it is seen to come and go.
    """

    def __init__(self, folder, bus, environment=None):
        self.folder = pathlib.Path(folder)
        self.bus = bus
        self.program = program("mailidled")
        self.prefix = []  # a command that becomes mailidled
        self.is_sanitized = b"__asan_init" in self.program.read_bytes()
        self.configuration = self.folder / "mailidle.conf"
        self.state = self.folder / "state"
        self.trace = self.folder / "trace"
        self.is_traced = True
        home = self.folder / "home"
        home.mkdir()
        runtime = self.folder / "runtime"
        runtime.mkdir(mode=0o700)
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / ".local/state"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_RUNTIME_DIR": str(runtime),
            "DBUS_SESSION_BUS_ADDRESS": bus.address,
            # Nobody there, unless a test puts a bus of its own.
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder}/no-system-bus",
            "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            **(environment or {}),
        }
        self.process = None
        self._lines = []
        self._reader = None

    def configure(self, *accounts, text=""):
        """Writes the configuration: accounts, and whatever else as text."""
        parts = [account.text(self.folder) for account in accounts]
        new = self.configuration.with_suffix(".new")
        new.write_text("\n".join([*parts, text]))
        new.chmod(0o600)
        new.replace(self.configuration)
        return self

    def command(self, *arguments):
        return [
            *self.prefix,
            str(self.program),
            *("--config", str(self.configuration)),
            *("--state-dir", str(self.state)),
            *("--log-level", "debug"),
            *(("--trace-imap", str(self.trace)) if self.is_traced else ()),
            *arguments,
        ]

    def start(self, *arguments, ready=True):
        """ready: returns when it owns its name and its properties were read; else at once."""
        assert self.process is None
        self.process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C is for the tests; they end it as it should be ended.
            start_new_session=True,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, args=[self.process.stderr])
        self._reader.start()
        if ready:
            self.bus.wait(
                lambda: (self.bus.is_loaded and self.bus.owner) or self.process.poll() is not None,
                START_SECONDS,
                f"mailidled on the bus\n{self.log}",
            )
            if self.process.poll() is not None:
                raise RuntimeError(f"mailidled ended at once: {self.wait()}\n{self.log}")
        return self

    def _read(self, stderr):
        with stderr:
            for line in stderr:
                self._lines.append(line)
                self.bus.wake()
        # Whoever waits for the daemon's bus name wants to know that it will not come.
        self.process.wait()
        self.bus.wake()

    @property
    def log(self):
        """What it has said so far."""
        return "".join(self._lines)

    def wait_for_log(self, text, timeout=10):
        self.bus.wait(lambda: text in self.log, timeout, f"{text!r} in the log")

    def reload(self):
        """SIGHUP; whoever wants to know when it is done calls Reload instead."""
        self.process.send_signal(signal.SIGHUP)

    def wait(self, timeout=START_SECONDS):
        """Waits for its end, looks for what sanitizers say, and returns its exit code."""
        code = self.process.wait(timeout)
        self._reader.join()
        self.process = None
        if COMPLAINT.search(self.log):
            raise AssertionError(f"a sanitizer complains:\n{self.log}")
        return code

    def kill(self):
        """As a power cut ends it."""
        self.process.kill()
        self.wait()
        self.bus.wait(lambda: not self.bus.owner, what="the bus to notice")

    def stop(self):
        """SIGTERM, and it is gone within 2 s with exit code 0.

        A sanitizer looks for leaks after main(), in its own time; then the 2 s are until the name
        has left the bus.
        """
        owner = self.bus.owner
        began = time.monotonic()
        self.process.terminate()
        if self.is_sanitized:
            if owner:
                self.bus.wait(
                    lambda: self.bus.owner != owner,
                    STOP_SECONDS,
                    f"mailidled off the bus after SIGTERM\n{self.log}",
                )
            code = self.wait(LEAK_SECONDS)
        else:
            code = self.wait(STOP_SECONDS - (time.monotonic() - began))
        assert code == 0, f"exit code {code}\n{self.log}"

    def restart(self, *arguments):
        self.stop()
        self.bus.wait(lambda: not self.bus.owner, what="the name to be free")
        return self.start(*arguments)

    def close(self):
        """The end of the test: what still runs must end well."""
        try:
            if self.process is not None:
                self.stop()
        finally:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self._reader.join()
            # pytest shows this when the test fails.
            print(f"--- mailidled said:\n{self.log}")
            secrecy.keep("log", self.log)
            if self.trace.exists():
                trace = self.trace.read_text(errors="surrogateescape")
                print(f"--- the IMAP conversation:\n{trace.encode(errors='replace').decode()}")
                secrecy.keep("trace", trace)
