"""Real IMAP servers for the tests: Dovecot, Cyrus and Courier, each in a temporary folder.

    with Dovecot() as server:
        user = server.user()
        server.deliver(user, b"Subject: hello\\r\\n\\r\\n")
        with server.client(user) as imap:
            imap.select("INBOX")
"""

from .base import PASSWORD, Server, User
from .certificates import Certificates
from .courier import Courier
from .cyrus import Cyrus
from .dovecot import Dovecot

__all__ = ["Certificates", "Courier", "Cyrus", "Dovecot", "PASSWORD", "Server", "User"]
