"""Ports for test servers: free ones from 22000 to 24999, each promised to one process at a time.

Above 32767 they would meet outgoing connections. Between looking for a free port and listening on
it another test could do the same; a promise prevents that: an abstract socket named after the port,
which the kernel takes back when the process ends, however it ends.
"""

import errno
import random
import socket

FIRST, LAST = 22000, 24999

_promises = {}


def _promise(port):
    promise = socket.socket(socket.AF_UNIX)
    try:
        promise.bind(f"\0mailidle-test-port-{port}")
    except OSError as error:
        promise.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return promise


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def take():
    """Returns a port on which nobody listens; it is ours until give_back() or the end."""
    for port in random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST):
        promise = _promise(port)
        if promise is None:
            continue
        if _is_free(port):
            _promises[port] = promise
            return port
        promise.close()
    raise RuntimeError(f"no free port from {FIRST} to {LAST}")


def give_back(port):
    _promises.pop(port).close()
