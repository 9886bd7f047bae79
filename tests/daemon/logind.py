"""systemd-logind as python3-dbusmock plays it, on a system bus of its own."""

import os
import subprocess
import sys
import time

from busclient import Bus
from busdaemon import BusDaemon

NAME = "org.freedesktop.login1"
MANAGER = NAME + ".Manager"
PATH = "/org/freedesktop/login1"
MOCK = "org.freedesktop.DBus.Mock"


class Logind:
    """environment is what the daemon needs to find the system bus."""

    def __init__(self, folder):
        self._folder = folder
        self._process = None
        self.bus_daemon = None
        self.bus = None
        self.start_bus()
        # Without the bus' identity, which is another one after a restart.
        address = self.bus_daemon.address.partition(",guid=")[0]
        self.environment = {"DBUS_SYSTEM_BUS_ADDRESS": address}

    def start_bus(self):
        """Again, after kill_bus(), under the same address."""
        self.bus_daemon = BusDaemon(self._folder, "system")
        self.bus = Bus(self.bus_daemon.address)

    def kill_bus(self):
        """logind goes with it."""
        self.bus.close()
        self.bus_daemon.kill()
        if self._process is not None:
            self.stop()

    def start(self):
        """Returns when it has its name."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dbusmock", "--system", "--template", "logind"],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait(self._is_there, "logind on the system bus")
        return self

    def _is_there(self):
        return self.bus.call(
            "NameHasOwner",
            "s",
            NAME,
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            destination="org.freedesktop.DBus",
        )

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self):
        self.bus.close()
        if self._process is not None:
            self.stop()
        self.bus_daemon.stop()

    def prepare_for_sleep(self, is_beginning):
        self.bus.call(
            "EmitSignal",
            "sssav",
            MANAGER,
            "PrepareForSleep",
            "b",
            [variant(is_beginning)],
            path=PATH,
            interface=MOCK,
            destination=NAME,
        )

    def inhibitors(self):
        """What for, who and how, of everybody who is waited for."""
        listed = self.bus.call(
            "ListInhibitors", path=PATH, interface=MANAGER, destination=NAME
        )
        return [(what, who, mode) for what, who, _, mode, _, _ in listed]

    def wait_for_inhibitor(self):
        wait(lambda: self.inhibitors() == [("sleep", "mailidle", "delay")], "an inhibitor")

    def wait_for_consent(self):
        """Nobody is waited for any more."""
        wait(lambda: not self.inhibitors(), "the inhibitor's end")


def variant(truth):
    import dbus_next

    return dbus_next.Variant("b", truth)


def wait(predicate, what, timeout=10):
    """logind tells nobody who inhibits: it has to be asked again and again."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(0.01)
