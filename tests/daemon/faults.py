"""System calls of the daemon that fail on demand: the other side of faulty_calls.c.

    calls = Calls(folder)
    daemon = new_daemon(calls.environment())
    ...
    before = calls.counted()            # what is called how often: {"recv tcp": 20}
    calls.plan(Fault("recv tcp", errno.ECONNRESET, first=3))
    ...
    calls.clear()                       # returns how many of them failed

What may happen to a call stands in POSSIBLE: an errno, or a transfer of so many octets (negative).
"""

import dataclasses
import errno
import mmap
import struct

from mailidled import program

SLOT = struct.Struct("=28sI")
PLAN = struct.Struct("=IIiI")
N_SLOTS = 255
EVER = 0xFFFFFFFF

AGAIN = (errno.EINTR, errno.EAGAIN)
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# getaddrinfo(3) has codes of its own, and fails with one of them whatever is planned.
EAI = errno.EIO
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)

# By name and kind of descriptor, "*" for the kinds that are not named. What is not here does not
# fail (a write of 1 to an eventfd, eventfd(2)), or nobody looks.
POSSIBLE = {
    "recv": {"tcp": (*AGAIN, -1, errno.ECONNRESET, errno.ETIMEDOUT), "unix": (*AGAIN, -1)},
    "read": {
        "tcp": (*AGAIN, -1, errno.ECONNRESET, errno.ETIMEDOUT),
        "pipe": (*AGAIN, -1, errno.EIO),
        "event": AGAIN,
        "secret": (errno.EIO,),
        "database": (errno.EIO,),
    },
    "write": {
        "tcp": (*AGAIN, -1, errno.EPIPE, errno.ENOBUFS),
        "memfd": (errno.EINTR, -1, errno.ENOSPC, errno.ENOMEM),
        "trace": (errno.EINTR, -1, *NO_ROOM),
        "file": (errno.EINTR, -1, *NO_ROOM),
    },
    "send": {"tcp": (*AGAIN, -1, errno.EPIPE, errno.ENOBUFS)},
    "writev": {"tcp": (*AGAIN, -1, errno.EPIPE, errno.ENOBUFS), "unix": (*AGAIN, -1)},
    "readv": {"unix": (*AGAIN, -1)},
    "sendmsg": {"tcp": (*AGAIN, -1, errno.EPIPE, errno.ENOBUFS), "unix": (*AGAIN, -1)},
    "recvmsg": {"tcp": (*AGAIN, -1, errno.ECONNRESET), "unix": (*AGAIN, -1), "netlink": AGAIN},
    "socket": {"*": (*NO_DESCRIPTOR, errno.ENOBUFS)},
    "connect": {"tcp": (errno.EAGAIN, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ENOBUFS)},
    "setsockopt": {"*": (errno.EINVAL, errno.ENOBUFS, errno.ENOMEM)},
    "getsockopt": {"tcp": (errno.EINVAL, errno.ENOBUFS)},
    "shutdown": {"*": (errno.ENOTCONN,)},
    "pipe2": {"*": NO_DESCRIPTOR},
    "memfd_create": {"*": NO_DESCRIPTOR},
    "pidfd_open": {"*": NO_DESCRIPTOR},
    "posix_spawn": {"*": (errno.EAGAIN, errno.ENOMEM)},
    "getaddrinfo": {"*": (EAI,)},
    "epoll_ctl": {"*": (errno.ENOMEM, errno.ENOSPC)},
    "epoll_wait": {"*": (errno.EINTR,)},
    "poll": {"*": (errno.EINTR,)},
    "ppoll": {"*": (errno.EINTR,)},
    "inotify_add_watch": {"*": (errno.ENOSPC, errno.ENOMEM)},
    "open": {"*": NO_DESCRIPTOR},
    "open64": {
        "database": (*NO_DESCRIPTOR, *NO_ROOM),
        "log": (*NO_DESCRIPTOR, *NO_ROOM),
        "*": NO_DESCRIPTOR,
    },
    "openat64": {"*": NO_DESCRIPTOR},
    "fopen": {"*": NO_DESCRIPTOR},
    "pwrite64": {"*": (errno.EINTR, -100, *NO_ROOM)},
    "pread64": {"*": (errno.EINTR, -10, errno.EIO)},
    "fsync": {"*": (errno.EIO, errno.ENOSPC)},
    "fdatasync": {"*": (errno.EIO, errno.ENOSPC)},
    "ftruncate64": {"*": (errno.EINTR, errno.EIO, errno.ENOSPC)},
    "fstat64": {"*": (errno.EIO,)},
    "fcntl64": {"database": (errno.ENOLCK, errno.EIO), "memfd": (errno.EBUSY,)},
    "waitid": {"*": (errno.EINTR,)},
    "waitpid": {"*": (errno.EINTR,)},
    "getrandom": {"*": (errno.EINTR,)},
    # Those of a beginning.
    "epoll_create1": {"*": NO_DESCRIPTOR},
    "timerfd_create": {"*": NO_DESCRIPTOR},
    "eventfd": {"*": NO_DESCRIPTOR},
    "inotify_init1": {"*": NO_DESCRIPTOR},
    "socketpair": {"*": NO_DESCRIPTOR},
    "mkdir": {"*": NO_ROOM},
    "fchmod": {"*": (errno.EIO, errno.EROFS)},
    "flock": {"*": (errno.ENOLCK, errno.EINTR)},
    "bind": {"*": (errno.EADDRINUSE,)},
    "unlink": {"*": (errno.EIO, errno.EROFS)},
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """The first to the last call of that name and kind fail, counted from 1."""

    name: str
    kind: int
    first: int = 1
    last: int = None

    def __str__(self):
        kind = errno.errorcode[self.kind] if self.kind > 0 else f"{-self.kind} octets"
        last = f"-{'' if self.last == EVER else self.last}" if self.last else ""
        return f"{self.name} {kind} {self.first}{last}"

    @property
    def is_harmless(self):
        """Nobody needs to see anything of it."""
        return self.kind < 0 or self.kind in AGAIN


def possible(name):
    """What may happen to "recv tcp"."""
    call, kind = name.split()
    kinds = POSSIBLE.get(call, {})
    return kinds.get(kind, kinds.get("*", ()))


class Calls:
    """A file that the daemon of this environment() and the test share."""

    def __init__(self, folder):
        self.path = folder / "calls"
        self.path.write_bytes(bytes(SLOT.size + PLAN.size + N_SLOTS * SLOT.size))
        with open(self.path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def environment(self):
        return {
            "ASAN_OPTIONS": "detect_leaks=1:verify_asan_link_order=0",
            "LD_PRELOAD": str(program("faulty-calls.so")),
            "FAULTY_CALLS": str(self.path),
        }

    def plan(self, fault):
        self.clear()
        self._map[: SLOT.size] = SLOT.pack(fault.name.encode(), 0)
        last = fault.last or fault.first
        # It begins with the number of the first.
        PLAN.pack_into(self._map, SLOT.size, 0, last, fault.kind, 0)
        struct.pack_into("=I", self._map, SLOT.size, fault.first)

    def clear(self):
        n_failed = PLAN.unpack_from(self._map, SLOT.size)[3]
        PLAN.pack_into(self._map, SLOT.size, 0, 0, 0, 0)
        return n_failed

    def counted(self):
        counts = {}
        for i in range(N_SLOTS):
            at = SLOT.size + PLAN.size + i * SLOT.size
            name, n = SLOT.unpack_from(self._map, at)
            if n:
                counts[name.partition(b"\0")[0].decode()] = n
        return counts

    def since(self, before):
        return {
            name: n - before.get(name, 0)
            for name, n in self.counted().items()
            if n > before.get(name, 0)
        }

    def close(self):
        self._map.close()
