"""Two network namespaces and a cable: mailidle at one end, a server at the other, and between them
whatever happens to a network: an address that goes, a route that goes, packets that vanish.

    cable = Cable()
    relay = Relay(dovecot, host=cable.SERVER, listen=cable.listen)
    daemon.prefix = cable.prefix()
    cable.freeze()

No process but mailidle runs there for long: the server listens by a socket that was made at its end
and handed out. Bus and files are the same at both ends and outside.
"""

import array
import os
import socket
import subprocess
import sys

LISTEN = """
import array, socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
listener = socket.create_server((sys.argv[2], int(sys.argv[3])))
channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))])
"""

# The kernel decides about names of links for itself alone.
LINK = "cable"
# Above the table that says what is local, which is asked at the latter.
FREEZE, LOCAL = 10, 100


class Cable:
    """Documentation addresses (RFC 5737, RFC 3849); mailidle's end has that of IPv4 alone."""

    SERVER = "192.0.2.1"
    CLIENT = "192.0.2.2"
    SERVER6 = "2001:db8::1"
    CLIENT6 = "2001:db8::2"

    @staticmethod
    def unavailable():
        """Why there cannot be one here, or None."""
        command = ["unshare", "--map-root-user", "--net", "ip", "link", "add", "type", "veth"]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as missing:
            return f"{missing.filename} is missing: tests/install-packages"
        if done.returncode != 0:
            return f"no network namespaces here: {done.stderr.strip()}"
        return None

    def __init__(self):
        self._held = []
        try:
            self._client = self._hold("unshare", "--map-root-user", "--net")
            self._server = self._hold(*self._enter(self._client, net=False), "unshare", "--net")
            self.at_client(
                f"link add {LINK} type veth peer name {LINK} netns {self._server}",
                "link set lo up",
                # No address comes by itself, some seconds later.
                f"link set {LINK} addrgenmode none",
                f"link set {LINK} up",
                f"addr add {self.CLIENT}/24 dev {LINK}",
            )
            self.at_server(
                "link set lo up",
                f"link set {LINK} addrgenmode none",
                f"link set {LINK} up",
                f"addr add {self.SERVER}/24 dev {LINK}",
                f"addr add {self.SERVER6}/64 dev {LINK} nodad",
                f"rule add pref {LOCAL} lookup local",
                "rule del pref 0",
            )
        except BaseException:
            self.close()
            raise

    def _hold(self, *command):
        """A process that does nothing but be in a namespace; returns its id."""
        process = subprocess.Popen(
            [*command, "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._held.append(process)
        if process.stdout.readline() != b"\n":
            raise RuntimeError(f"no namespace: {command}")
        return process.pid

    @staticmethod
    def _enter(pid, net=True):
        command = ["nsenter", "--preserve-credentials", "--user", f"--target={pid}"]
        return command + ["--net"] if net else command

    def _ip(self, pid, commands):
        subprocess.run(
            [*self._enter(pid), "ip", "-batch", "-"],
            input="\n".join(commands) + "\n",
            check=True,
            text=True,
        )

    def at_client(self, *commands):
        """Commands of ip(8) at mailidle's end."""
        self._ip(self._client, commands)

    def at_server(self, *commands):
        self._ip(self._server, commands)

    def prefix(self):
        """Before the command of the daemon: it runs at its end, as the user that it would be, and
        with no power over the network."""
        own = [f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
        return [*self._enter(self._client), "unshare", "--user", *own]

    def listen(self, port, address=SERVER):
        """A socket that listens at the server's end."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            subprocess.run(
                [
                    *self._enter(self._server),
                    *(sys.executable, "-c", LISTEN, str(theirs.fileno()), address, str(port)),
                ],
                pass_fds=[theirs.fileno()],
                check=True,
            )
            fds = array.array("i")
            _, [(_, _, octets)], _, _ = ours.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
            fds.frombytes(octets[: fds.itemsize])
        return socket.socket(fileno=fds[0])

    def freeze(self):
        """From now on whatever arrives at the server's end, or leaves it, vanishes."""
        self.at_server(f"rule add pref {FREEZE} blackhole")

    def thaw(self):
        self.at_server(f"rule del pref {FREEZE}")

    def close(self):
        for process in reversed(self._held):
            process.stdin.close()
            process.stdout.close()
            process.wait()
