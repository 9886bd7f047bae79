"""A relay before a server, which a test can freeze and cut: the network at its worst, on demand."""

import dataclasses
import selectors
import socket
import sys
import pathlib
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from servers import ports


@dataclasses.dataclass
class Record:
    """The octets of one connection."""

    client: bytearray = dataclasses.field(default_factory=bytearray)
    server: bytearray = dataclasses.field(default_factory=bytearray)


class Relay:
    """Stands for the server in an Account: host, imap, imaps, ca; passes octets both ways.

    cut() ends all connections by a reset, freeze() lets nothing through any more (and accepts no
    connection), thaw() goes on where it stopped. n_connections counts those made so far.

    records: if wanted, what each connection has carried since forget().
    """

    def __init__(self, server, with_records=False):
        self.server = server
        self.host = server.host
        self.ca = server.ca
        self.imap = ports.take()
        self.imaps = ports.take()
        self.n_connections = 0
        self.records = [] if with_records else None
        self._recorded = {}  # who receives: where it is written down
        self._pairs = {}
        self._lock = threading.Lock()
        self._is_frozen = False
        self._is_refusing = False
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._listeners = []
        for port, target in ((self.imap, server.imap), (self.imaps, server.imaps)):
            listener = socket.create_server(("127.0.0.1", port))
            self._selector.register(listener, selectors.EVENT_READ, target)
            self._listeners.append(listener)
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __getattr__(self, name):
        # Users, mail and names are the server's own.
        return getattr(self.server, name)

    def _run(self):
        while not self._is_over:
            for key, _ in self._selector.select():
                with self._lock:
                    self._serve(key)

    def _serve(self, key):
        thing = key.fileobj
        if thing is self._woken:
            self._woken.recv(100)
        elif self._is_frozen:
            # The octets stay where they are; the turn is given away until something changes.
            self._lock.release()
            threading.Event().wait(0.005)
            self._lock.acquire()
        elif thing in self._listeners:
            self._accept(thing, key.data)
        elif thing in self._pairs:
            self._pass_on(thing)

    def _accept(self, listener, target):
        client, _ = listener.accept()
        if self._is_refusing:
            self._reset(client)
            return
        self.n_connections += 1
        server = socket.create_connection(("127.0.0.1", target))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ, None)
        if self.records is not None:
            record = Record()
            self.records.append(record)
            self._recorded |= {client: record.server, server: record.client}

    def _pass_on(self, thing):
        other = self._pairs[thing]
        try:
            octets = thing.recv(65536)
            if octets:
                if other in self._recorded:
                    self._recorded[other] += octets
                other.sendall(octets)
                return
        except OSError:
            pass
        self._end(thing, by_reset=False)

    def _reset(self, thing):
        thing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        thing.close()

    def _end(self, thing, by_reset):
        for one in (thing, self._pairs[thing]):
            if one in self._pairs:
                self._selector.unregister(one)
                del self._pairs[one]
                self._recorded.pop(one, None)
                if by_reset:
                    self._reset(one)
                else:
                    one.close()

    def cut(self):
        with self._lock:
            n = len(self._pairs) // 2
            for thing in list(self._pairs):
                if thing in self._pairs:
                    self._end(thing, by_reset=True)
        return n

    def freeze(self):
        with self._lock:
            self._is_frozen = True

    def thaw(self):
        with self._lock:
            self._is_frozen = False

    def refuse(self, is_refusing=True):
        """New connections are reset at once."""
        with self._lock:
            self._is_refusing = is_refusing

    def forget(self):
        """The records begin anew."""
        with self._lock:
            kept = self._recorded.values()
            self.records = [
                record
                for record in self.records
                if any(record.client is octets for octets in kept)
            ]
            for octets in kept:
                octets.clear()

    def close(self):
        self._is_over = True
        self._wake.send(b"x")
        self._thread.join()
        for thing in [*self._pairs, *self._listeners, self._wake, self._woken]:
            thing.close()
        self._selector.close()
        for port in (self.imap, self.imaps):
            ports.give_back(port)
