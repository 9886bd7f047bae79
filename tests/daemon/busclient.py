"""A program on the session bus, as a test sees it: calls, signals with their times, and properties.

A thread of its own reads the bus, so that times are those of arrival and nothing waits by sleeping:

    bus.call("Refresh", "ss", "work", "INBOX")
    signal = bus.wait_for_signal("NewMail")
    bus.wait(lambda: bus.mailbox("work", "INBOX")["State"] == "idle")

bus.objects holds what the properties are now: read when the daemon takes its name, and kept right
by its signals alone, so that a property that changes silently shows.
"""

import asyncio
import os
import threading
import time
import typing

import dbus_next
import dbus_next.aio
import secrecy

NAME = "org.example.MailIdle"
ROOT = "/org/example/MailIdle"
ACCOUNT = NAME + ".Account"
MAILBOX = NAME + ".Mailbox"
ERROR = NAME + ".Error."
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"

# Every method answers within 20 s; whoever waits longer has found a mistake.
SECONDS = 25


class BusError(Exception):
    """An error reply; name is without our own prefix."""

    def __init__(self, name, text):
        super().__init__(f"{name}: {text}")
        self.name = name.removeprefix(ERROR)
        self.text = text


class Signal(typing.NamedTuple):
    time: float  # time.monotonic() of its arrival
    path: str
    interface: str
    member: str
    arguments: list


def plain(value):
    """A value without its variants."""
    if isinstance(value, dbus_next.Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def label(name):
    """A name as one label of an object path, as sd_bus_path_encode(3) makes it."""
    if not name:
        return "_"
    octets = name.encode()
    kept = "".join(
        chr(octet)
        if chr(octet).isascii() and (chr(octet).isalpha() or (i and chr(octet).isdigit()))
        else f"_{octet:02x}"
        for i, octet in enumerate(octets)
    )
    return kept


def account_path(account):
    return f"{ROOT}/{label(account)}"


def mailbox_path(account, mailbox):
    return f"{ROOT}/{label(account)}/{label(mailbox)}"


class Bus:
    def __init__(self, address):
        self.address = address
        self.signals = []
        self.objects = {}
        self.owner = ""  # of NAME
        self.owner_times = []  # (time, owner) of every change
        self.is_loaded = False
        self._changed = threading.Condition()
        self._others = []
        self._said = [] if secrecy.is_kept() else None  # by the daemon, all of it
        self._loading = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._run(self._connect())
        except BaseException:
            self.close()
            raise

    def _run(self, coroutine, timeout=SECONDS):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    async def _connect(self):
        self._bus = dbus_next.aio.MessageBus(bus_address=self.address, negotiate_unix_fd=True)
        await self._bus.connect()
        self._end = asyncio.ensure_future(self._wait_for_end())
        self.unique_name = self._bus.unique_name
        self._bus.add_message_handler(self._on_message)
        for rule in (
            f"type='signal',sender='{NAME}'",
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',"
            f"arg0='{NAME}'",
        ):
            await self._driver("AddMatch", "s", rule)
        owner = (await self._driver("NameHasOwner", "s", NAME)).body[0]
        if owner and not self.owner:
            reply = await self._driver("GetNameOwner", "s", NAME)
            self._on_owner(reply.body[0], time.monotonic())

    async def _wait_for_end(self):
        try:
            await self._bus.wait_for_disconnect()
        except (EOFError, OSError):
            pass  # the bus was killed

    async def _disconnect(self):
        self._bus.disconnect()
        await self._end

    def _driver(self, member, signature, *arguments):
        return self._bus.call(
            dbus_next.Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member=member,
                signature=signature,
                body=list(arguments),
            )
        )

    def close(self):
        for other in self._others:
            other.close()
        self._others.clear()
        if self._loop.is_closed():
            return
        secrecy.keep("bus", "".join(self._said or ()))
        if hasattr(self, "_end"):
            self._run(self._disconnect())
            # Its last turn takes the connection's watchers out of the loop.
            self._run(asyncio.sleep(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def another(self):
        """One more program on the same bus."""
        self._others.append(Bus(self.address))
        return self._others[-1]

    # What comes in, on the thread that reads.

    def _on_message(self, message):
        now = time.monotonic()
        with self._changed:
            if message.message_type == dbus_next.MessageType.SIGNAL:
                self._on_signal(message, now)
            elif message.reply_serial in self._loading:
                self._on_loaded(message)
            if message.sender == self.owner and self._said is not None:
                self._said.append(f"{message.member} {message.error_name} {message.body}\n")
            self._changed.notify_all()

    def _on_signal(self, message, now):
        if message.member == "NameOwnerChanged":
            if message.body[0] == NAME:
                self._on_owner(message.body[2], now)
            return
        if message.sender != self.owner:
            return
        body = plain(message.body)
        self.signals.append(
            Signal(now, message.path, message.interface, message.member, body)
        )
        if message.member == "PropertiesChanged":
            interface, changed, gone = body
            known = self.objects.setdefault(message.path, {}).setdefault(interface, {})
            known.update(changed)
            for name in gone:
                known.pop(name, None)
        elif message.member == "InterfacesAdded":
            self.objects.setdefault(body[0], {}).update(body[1])
        elif message.member == "InterfacesRemoved":
            interfaces = self.objects.get(body[0], {})
            for name in body[1]:
                interfaces.pop(name, None)
            # The interfaces that every object has leave with the last of its own.
            if not any(name.startswith(NAME) for name in interfaces):
                self.objects.pop(body[0], None)

    def _on_owner(self, owner, now):
        if owner == self.owner:
            return
        self.owner = owner
        self.owner_times.append((now, owner))
        self.objects = {}
        self._loading = {}
        self.is_loaded = False
        if not owner:
            return
        # The replies are taken where the signals are, in their order: a reply that waits for its
        # caller to be woken could overwrite a signal that came after it.
        for interface, member, signature, body in (
            (OBJECT_MANAGER, "GetManagedObjects", "", []),
            (PROPERTIES, "GetAll", "s", [NAME]),
        ):
            serial = self._bus.next_serial()
            self._loading[serial] = member
            self._bus.send(
                dbus_next.Message(
                    destination=owner,
                    path=ROOT,
                    interface=interface,
                    member=member,
                    signature=signature,
                    body=body,
                    serial=serial,
                )
            )

    def _on_loaded(self, message):
        member = self._loading.pop(message.reply_serial)
        if message.message_type == dbus_next.MessageType.ERROR:
            return
        body = plain(message.body)
        if member == "GetAll":
            self.objects.setdefault(ROOT, {})[NAME] = body[0]
        else:
            for path, interfaces in body[0].items():
                self.objects.setdefault(path, {}).update(interfaces)
        self.is_loaded = not self._loading

    # Waiting.

    def wait(self, predicate, timeout=10, what=None):
        """Returns predicate()'s value as soon as it is true. What does not exist yet is not yet."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                try:
                    value = predicate()
                except (KeyError, IndexError):
                    value = None
                if value:
                    return value
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(
                        f"not within {timeout} s: {what or 'what was waited for'}\n"
                        f"{self.describe()}"
                    )
                self._changed.wait(remaining)

    def wake(self):
        """Something that a predicate looks at has changed elsewhere."""
        with self._changed:
            self._changed.notify_all()

    def mark(self):
        """A place in the sequence of signals, for since=."""
        with self._changed:
            return len(self.signals)

    def matching(self, member, predicate=None, since=0):
        """The signals of that name whose arguments satisfy the predicate, oldest first."""
        with self._changed:
            return [
                signal
                for signal in self.signals[since:]
                if signal.member == member and (predicate is None or predicate(*signal.arguments))
            ]

    def wait_for_signal(self, member, predicate=None, timeout=10, since=0):
        """The first signal of that name whose arguments satisfy the predicate; see mark()."""
        return self.wait(
            lambda: self.matching(member, predicate, since)[0], timeout, f"signal {member}"
        )

    def wait_for_state(self, account, mailbox, state="idle", timeout=20):
        return self.wait(
            lambda: self.mailbox(account, mailbox)["State"] == state,
            timeout,
            f"{account}/{mailbox} in state {state}",
        )

    def new_mail(self, account=None, mailbox=None, since=0):
        """Every message of every NewMail, in order."""
        return [
            message
            for signal in self.matching("NewMail", since=since)
            for message in signal.arguments[2]
            if account in (None, signal.arguments[0]) and mailbox in (None, signal.arguments[1])
        ]

    # Properties.

    def root(self):
        return self.objects[ROOT][NAME]

    def account(self, account):
        return self.objects[account_path(account)][ACCOUNT]

    def mailbox(self, account, mailbox):
        return self.objects[mailbox_path(account, mailbox)][MAILBOX]

    def wrong_sums(self):
        """The objects whose Unread is not what their mailboxes have together."""
        boxes = {
            path: of[MAILBOX]["Unread"] for path, of in self.objects.items() if MAILBOX in of
        }
        return {
            path: shown["Unread"]
            for path, of in self.objects.items()
            if (shown := of.get(ACCOUNT) or (of.get(NAME) if path == ROOT else None))
            and shown["Unread"]
            != sum(n for box, n in boxes.items() if box.startswith(path + "/"))
        }

    def get(self, path, interface, name):
        """A property, asked for now."""
        return self.call("Get", "ss", interface, name, path=path, interface=PROPERTIES)

    def get_all(self, path, interface):
        return self.call("GetAll", "s", interface, path=path, interface=PROPERTIES)

    def managed_objects(self):
        return self.call("GetManagedObjects", interface=OBJECT_MANAGER)

    # Calls.

    def send(
        self,
        member,
        signature="",
        *arguments,
        path=ROOT,
        interface=NAME,
        destination=NAME,
        fds=(),
    ):
        """Calls without waiting: .result(timeout) of what it returns is the reply as a message.
        fds: what "h" among the arguments counts."""
        message = dbus_next.Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(arguments),
            unix_fds=list(fds),
        )
        return asyncio.run_coroutine_threadsafe(self._bus.call(message), self._loop)

    def emit(self, signal):
        """Sends a signal, a dbus_next.Message, and returns when the bus has it."""
        self._run(self._emit(signal))

    async def _emit(self, signal):
        self._bus.send(signal)
        await self._driver("GetId", "")

    def reply(self, member, signature="", *arguments, timeout=SECONDS, **where):
        """Calls and returns the reply as a message: its unix_fds, its signature."""
        return check(self.send(member, signature, *arguments, **where).result(timeout))

    def call(self, member, signature="", *arguments, timeout=SECONDS, **where):
        """Calls, and returns the one value of the reply, several as a list, none as None."""
        values = plain(self.reply(member, signature, *arguments, timeout=timeout, **where).body)
        return values[0] if len(values) == 1 else values or None

    def fetch_raw(self, account, mailbox, uid):
        """The whole message."""
        reply = self.reply("FetchRaw", "ssu", account, mailbox, uid)
        [fd] = reply.unix_fds
        with os.fdopen(fd, "rb") as file:
            octets = file.read()
        assert len(octets) == reply.body[1]
        return octets

    def describe(self):
        """What has been seen, for a person who looks at a failure."""
        with self._changed:
            lines = [f"owner of {NAME}: {self.owner or 'nobody'}"]
            for path, interfaces in sorted(self.objects.items()):
                for interface, values in interfaces.items():
                    if interface.startswith(NAME):
                        lines.append(f"{path}: {values}")
            start = self.signals[0].time if self.signals else 0
            lines += [
                f"{signal.time - start:8.3f} s {signal.member} {signal.path} {signal.arguments}"
                for signal in self.signals[-50:]
            ]
            return "\n".join(lines)


def check(message):
    """A reply, or the error that it is."""
    if message.message_type == dbus_next.MessageType.ERROR:
        raise BusError(message.error_name, message.body[0] if message.body else "")
    return message
