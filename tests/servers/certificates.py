"""The certificates of the test servers: made once for each process that asks, gone with it."""

import pathlib
import ssl
import subprocess
import tempfile

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "certificates"


class Certificates:
    """A root, an intermediate, and a server certificate for localhost, 127.0.0.1 and ::1."""

    _shared = None

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="mailidle-certificates-")
        self.folder = pathlib.Path(self._folder.name)
        subprocess.run([SCRIPT, self.folder], check=True, stdout=subprocess.DEVNULL)
        self.ca = self.folder / "ca.pem"
        self.chain = self.folder / "chain.pem"
        self.key = self.folder / "srv.key"

    @classmethod
    def shared(cls):
        if cls._shared is None:
            cls._shared = cls()
        return cls._shared

    def client_context(self):
        """What a client needs to trust these servers and nobody else."""
        return ssl.create_default_context(cafile=str(self.ca))
