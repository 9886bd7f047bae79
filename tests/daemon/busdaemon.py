"""A private bus: a dbus-daemon in a folder of its own, which can start no service by itself."""

import os
import pathlib
import signal
import subprocess

# No service directories: a session bus would start notification daemons and keyrings.
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>{kind}</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


class BusDaemon:
    """kind: session, or system for a test that plays logind."""

    def __init__(self, folder, kind="session"):
        folder = pathlib.Path(folder)
        configuration = folder / f"{kind}.conf"
        configuration.write_text(
            CONFIGURATION.format(kind=kind, socket=folder / f"{kind}.socket")
        )
        log = folder / f"{kind}.log"
        read, write = os.pipe()
        with open(log, "w") as stderr:
            self._process = subprocess.Popen(
                [
                    "dbus-daemon",
                    f"--config-file={configuration}",
                    "--nofork",
                    "--nopidfile",
                    "--nosyslog",
                    f"--print-address={write}",
                ],
                pass_fds=[write],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        os.close(write)
        with os.fdopen(read) as pipe:
            self.address = pipe.readline().strip()
        if not self.address:
            raise RuntimeError(f"dbus-daemon did not start: {log.read_text()}")

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        self._process.terminate()
        self._process.wait()

    def freeze(self):
        """It stands still."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        """As a crash ends it."""
        self._process.kill()
        self._process.wait()
