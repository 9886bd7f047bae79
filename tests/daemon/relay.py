"""A relay before a server, which a test can freeze and cut: the network at its worst, on demand."""

import dataclasses
import heapq
import itertools
import pathlib
import selectors
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from servers import ports

PIECE = 65536
RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: nothing is waited for


@dataclasses.dataclass
class Fate:
    """What becomes of one connection.

    After so many octets of one direction (all before them pass, none after them) comes the deed:
    "close" ends it in order, "reset" does not, "freeze" lets nothing through for some seconds and
    then either goes on where it stopped or forgets the connection. Until then each piece of at most
    so many octets waits delay seconds, in both directions.
    """

    octets: int
    deed: str = "close"
    to_server: bool = False
    seconds: float = 0
    goes_on: bool = True
    delay: float = 0
    piece: int = PIECE


@dataclasses.dataclass
class Record:
    """The octets of one connection."""

    client: bytearray = dataclasses.field(default_factory=bytearray)
    server: bytearray = dataclasses.field(default_factory=bytearray)


class _Connection:
    def __init__(self, client, server, fate, record):
        self.client = client
        self.server = server
        self.fate = fate
        self.record = record
        self.n_left = fate.octets if fate else 0
        self.late = set()  # ends of which a piece is held back
        self.is_frozen = False
        self.is_over = False

    def ends(self):
        return (self.client, self.server)

    def other(self, end):
        return self.server if end is self.client else self.client

    def is_fatal(self, end):
        """Whether what comes from this end is what the fate counts."""
        return self.fate is not None and (end is self.client) == self.fate.to_server


class Relay:
    """Stands for the server in an Account: host, imap, imaps, ca; passes octets both ways.

    cut() ends all connections by a reset, freeze() lets nothing through any more (and accepts no
    connection), thaw() goes on where it stopped. n_connections counts those made so far. fate: is
    asked with the number of each new connection, from 0, for its Fate or None; pardon() makes all
    that are there ordinary again, without what was forgotten. deeds counts what fates did.

    records: if wanted, what each connection has carried since forget(). host and listen (a function
    of the port): where it is found, if not on this machine's loopback.
    """

    def __init__(self, server, with_records=False, fate=None, host=None, listen=None):
        self.server = server
        self.host = host or server.host
        self.ca = server.ca
        self.imap = ports.take()
        self.imaps = ports.take()
        self.n_connections = 0
        self.deeds = dict.fromkeys(("close", "reset", "freeze"), 0)
        self.records = [] if with_records else None
        self._fate = fate
        self._connections = {}
        self._later = []
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._is_frozen = False
        self._is_refusing = False
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._listeners = []
        for port, target in ((self.imap, server.imap), (self.imaps, server.imaps)):
            listener = listen(port) if listen else socket.create_server(("127.0.0.1", port))
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
            for key, _ in self._selector.select(self._seconds()):
                with self._lock:
                    self._serve(key)
            with self._lock:
                self._do_what_is_due()

    def _seconds(self):
        with self._lock:
            if not self._later or self._is_frozen:
                return None
            return max(0, self._later[0][0] - time.monotonic())

    def _after(self, seconds, do, connection, *arguments):
        due = time.monotonic() + seconds
        heapq.heappush(self._later, (due, next(self._order), do, connection, arguments))

    def _do_what_is_due(self):
        while self._later and not self._is_frozen and self._later[0][0] <= time.monotonic():
            _, _, do, connection, arguments = heapq.heappop(self._later)
            if not connection.is_over:
                do(connection, *arguments)

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
        elif thing in self._connections:
            self._receive(self._connections[thing], thing)

    def _accept(self, listener, target):
        client, _ = listener.accept()
        if self._is_refusing:
            self._close(client, by_reset=True)
            return
        try:
            server = socket.create_connection(("127.0.0.1", target))
        except OSError:
            # Nobody is there, as without us.
            self._close(client, by_reset=True)
            return
        fate = self._fate(self.n_connections) if self._fate else None
        self.n_connections += 1
        record = None if self.records is None else Record()
        if record is not None:
            self.records.append(record)
        connection = _Connection(client, server, fate, record)
        for end in connection.ends():
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[end] = connection
            self._listen_to(connection, end)

    def _listen_to(self, connection, end):
        if not connection.is_frozen and end not in connection.late:
            self._selector.register(end, selectors.EVENT_READ, None)

    def _receive(self, connection, end):
        fate = connection.fate
        try:
            octets = end.recv(fate.piece if fate else PIECE)
        except OSError:
            octets = b""
        if octets and fate and fate.delay > 0:
            self._selector.unregister(end)
            connection.late.add(end)
            self._after(fate.delay, self._pass_on_late, connection, end, octets)
        else:
            self._pass_on(connection, end, octets)

    def _pass_on_late(self, connection, end, octets):
        if connection.is_frozen:
            # They are on the way when the path dies, and late when it lives again.
            self._after(0.1, self._pass_on_late, connection, end, octets)
            return
        connection.late.remove(end)
        self._listen_to(connection, end)
        self._pass_on(connection, end, octets)

    def _pass_on(self, connection, end, octets):
        rest = b""
        is_fatal = connection.is_fatal(end)
        if is_fatal:
            octets, rest = octets[: connection.n_left], octets[connection.n_left :]
            connection.n_left -= len(octets)
        if connection.record is not None:
            record = connection.record
            (record.client if end is connection.client else record.server).extend(octets)
        try:
            if octets:
                connection.other(end).sendall(octets)
            if not octets and not rest:
                raise ConnectionError
        except OSError:
            self._end(connection, by_reset=False)
            return
        if is_fatal and connection.n_left == 0:
            self._meet(connection, end, rest)

    def _meet(self, connection, end, rest):
        """Its fate, on the way from end; the rest is what has not passed."""
        fate = connection.fate
        connection.fate = None
        self.deeds[fate.deed] += 1
        if fate.deed != "freeze":
            self._end(connection, by_reset=fate.deed == "reset")
            return
        connection.is_frozen = True
        for one in connection.ends():
            if one in self._selector.get_map():
                self._selector.unregister(one)
        if fate.goes_on:
            self._after(fate.seconds, self._go_on, connection, end, rest)
        else:
            self._after(fate.seconds, self._end, connection, True)

    def _go_on(self, connection, end, rest):
        connection.is_frozen = False
        for one in connection.ends():
            self._listen_to(connection, one)
        if rest:
            self._pass_on(connection, end, rest)

    def _close(self, end, by_reset):
        if by_reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.close()

    def _end(self, connection, by_reset):
        connection.is_over = True
        for end in connection.ends():
            if end in self._selector.get_map():
                self._selector.unregister(end)
            del self._connections[end]
            self._close(end, by_reset)

    def _all(self):
        """Oldest first."""
        return list(dict.fromkeys(self._connections.values()))

    def _nudge(self):
        self._wake.send(b"x")

    def cut(self):
        with self._lock:
            connections = self._all()
            for connection in connections:
                self._end(connection, by_reset=True)
        return len(connections)

    def freeze(self):
        with self._lock:
            self._is_frozen = True

    def thaw(self):
        with self._lock:
            self._is_frozen = False
        self._nudge()

    def refuse(self, is_refusing=True):
        """New connections are reset at once."""
        with self._lock:
            self._is_refusing = is_refusing

    def pardon(self):
        with self._lock:
            for connection in self._all():
                connection.fate = None
            # What is frozen goes on or is forgotten now.
            self._later = [
                (due if do == self._pass_on_late else 0, order, do, connection, arguments)
                for due, order, do, connection, arguments in self._later
            ]
            heapq.heapify(self._later)
        self._nudge()

    def forget(self):
        """The records begin anew."""
        with self._lock:
            self.records = [connection.record for connection in self._all()]
            for record in self.records:
                record.client.clear()
                record.server.clear()

    def close(self):
        self._is_over = True
        self.thaw()
        self._thread.join()
        for thing in [*self._connections, *self._listeners, self._wake, self._woken]:
            thing.close()
        self._selector.close()
        for port in (self.imap, self.imaps):
            ports.give_back(port)
