"""Messages to send."""

import itertools

_numbers = itertools.count(1)


def message(subject="hello", body="text\r\n", message_id=None, headers=(), sender=None, to=None):
    """A plain message as octets; texts go into it as they are, in UTF-8. Octets are left alone."""

    def octets(text):
        return text if isinstance(text, bytes) else text.encode()

    number = next(_numbers)
    fields = [
        ("From", sender or "Jo Sender <sender@example.test>"),
        ("To", to or "reader@example.test"),
        ("Subject", subject),
        ("Date", "Mon, 01 Jan 2024 12:00:00 +0000"),
        ("Message-ID", message_id or f"<test-{number}@example.test>"),
        *headers,
    ]
    head = b"".join(octets(name) + b": " + octets(value) + b"\r\n" for name, value in fields)
    return head + b"\r\n" + octets(body)
