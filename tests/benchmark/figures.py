"""The figures of tests/bench: each takes a company and an effort, and says rows of the table."""

from delays import latency, refresh
from idling import quiet, sizes
from openings import connect, storm
from working import envelopes, mailboxes, news

FIGURES = {
    "latency": latency,
    "refresh": refresh,
    "connect": connect,
    "memory": sizes,
    "quiet": quiet,
    "envelopes": envelopes,
    "news": news,
    "mailboxes": mailboxes,
    "storm": storm,
}
