"""How fast mailidle is; tests/bench is how it is started.

The daemon (release build) on a bus of its own, against a server of the benchmark's that says no more
than is needed, so that what is measured is mailidled and the way to it.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import types

from workplace import TOP, BuildError, build, locked, temporary

sys.path.insert(0, str(TOP / "tests/daemon"))

from busclient import Bus
from busdaemon import BusDaemon
from mailidled import Account, Daemon
from servers import ports
from servers.base import User

FOLDER = TOP / "build/bench"


def refresh(place, n):
    """Refresh on an idle mailbox: from the call to DONE on the wire, and to the reply."""
    bus_daemon = BusDaemon(place.folder)
    port = ports.take()
    with contextlib.ExitStack() as stack:
        stack.callback(ports.give_back, port)
        stack.callback(bus_daemon.stop)
        bus = stack.enter_context(contextlib.closing(Bus(bus_daemon.address)))
        bench = subprocess.Popen(
            [FOLDER / "bench-refresh", str(port), str(n)],
            env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": bus_daemon.address},
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(bench.wait)
        assert bench.stdout.readline() == "listening\n"
        server = types.SimpleNamespace(host="127.0.0.1", imap=port, imaps=port, ca="")
        account = Account("bench", server, User("jo", "secret"), security="plain")
        daemon = Daemon(place.folder, bus).configure(account)
        daemon.command = lambda *_: [
            str(daemon.program),
            *("--config", str(daemon.configuration), "--state-dir", str(daemon.state)),
        ]
        daemon.start()
        stack.callback(daemon.stop)
        result = bench.stdout.read()
    return json.loads(result)


def main():
    parser = argparse.ArgumentParser(prog="tests/bench", description="Measures mailidle.")
    parser.add_argument("-n", type=int, default=2000, help="calls (default: %(default)s)")
    options = parser.parse_args()
    try:
        with locked(FOLDER):
            build(FOLDER, "--buildtype=release")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    os.environ["MAILIDLE_BUILD"] = str(FOLDER)
    with temporary() as place:
        times = refresh(place, options.n)
    print(f"{'Refresh on an idle mailbox, µs':34} {'min':>8} {'median':>8} {'p99':>8} {'max':>8}")
    for name, what in (("done", "from the call to DONE on the wire"), ("reply", "from the call to the reply")):
        row = times[name]
        print(f"{what:34} " + " ".join(f"{row[k]:8.1f}" for k in ("min", "median", "p99", "max")))
    print(f"({times['n']} calls, each through the bus daemon; loopback, no TLS)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
