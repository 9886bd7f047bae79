"""Which secrets the tests use, what mailidle said meanwhile, and whether the one is in the other.

Where MAILIDLE_RECORDS names a folder, register() and keep() write into it; search() reads it when
all is over. tests/run does so for the whole run.
"""

import base64
import itertools
import json
import os
import pathlib
import re

SECRETS = "secrets"
# What is shorter is a word that may stand anywhere, and is looked for in quotes alone.
SHORTEST = 8
_registered = set()
_numbers = itertools.count()


def _folder():
    name = os.environ.get("MAILIDLE_RECORDS")
    return pathlib.Path(name) if name else None


def is_kept():
    """Whether anybody is going to search."""
    return _folder() is not None


def register(secret, user=""):
    """From now on this secret, of this user, must not be seen; returns it."""
    entry = json.dumps([str(user), secret])
    if _folder() and (_folder(), entry) not in _registered:
        _registered.add((_folder(), entry))
        # One write: several processes append.
        with open(_folder() / SECRETS, "a") as file:
            file.write(entry + "\n")
    return secret


def keep(name, text):
    """Something that the daemon said, to be searched; name tells where."""
    if _folder() and text:
        test = re.sub(r"\W+", "-", os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("/")[2])
        path = _folder() / f"{test[:150]}.{os.getpid()}.{next(_numbers)}.{name}"
        path.write_text(text, errors="surrogateescape")


def encoded(octets):
    """What is the same in base64 wherever the octets stand: one for each way to meet its groups."""
    forms = []
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + octets)
        # A character that depends on a neighbour is left out.
        first = (shift * 8 + 5) // 6
        last = (shift + len(octets)) * 8 // 6
        forms.append(text[first:last])
    return forms


def forms(user, secret):
    """All that gives the secret away, as octets, by name."""
    octets = secret.encode()
    quoted = b'"' + re.sub(rb'(["\\])', rb"\\\1", octets) + b'"'
    plain = b"\0".join([b"", str(user).encode(), octets])
    found = {"quoted": quoted, "PLAIN": base64.b64encode(plain).rstrip(b"=")[:-1]}
    if len(octets) >= SHORTEST:
        found["plain"] = octets
        found |= {f"base64-{shift}": form for shift, form in enumerate(encoded(octets))}
    else:
        found["base64"] = b" " + base64.b64encode(octets)
    return found


def search(folder):
    """The finds: (record, user, form)."""
    folder = pathlib.Path(folder)
    secrets = folder / SECRETS
    wanted = {}
    for line in set(secrets.read_text().splitlines()) if secrets.exists() else ():
        user, secret = json.loads(line)
        for name, form in forms(user, secret).items():
            wanted.setdefault(form, (user, name))
    if not wanted:
        return []
    pattern = re.compile(b"|".join(re.escape(form) for form in wanted))
    finds = set()
    for record in sorted(folder.iterdir()):
        if record != secrets:
            for match in pattern.finditer(record.read_bytes()):
                finds.add((record.name, *wanted[match[0]]))
    return sorted(finds)
