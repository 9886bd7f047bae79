"""What is remembered across restarts, whatever happens to the files meanwhile: nothing is lost, and
nothing is told twice. A file that is no good means a new beginning, which tells nothing."""

import os
import resource
import shutil
import sqlite3
import subprocess

import pytest

from mail import message
from mailidled import Account


def subjects(bus, since=0):
    return [mail["Subject"] for mail in bus.new_mail(since=since)]


def settle(bus):
    """What was told before the reply is durable."""
    bus.call("Refresh", "ss", "work", "INBOX")


def settle_after_loss(daemon, bus):
    """The same where the state was lost meanwhile: what was known is stored again, which is not
    before a mailbox that is being synchronised has told everything.
    """
    settle(bus)

    def is_whole():
        log = daemon.log
        loss = log.rfind("is stored again")
        return 0 <= loss < log.rfind("lacks nothing any more")

    bus.wait(is_whole, what="the state to lack nothing")


def set_aside(daemon):
    return list(daemon.state.glob("mailidle.db.corrupt-*[0-9]"))


@pytest.fixture
def life(watch, bus, dovecot):
    """A daemon that knows three messages and has told two more."""
    user = dovecot.user()
    for n in range(3):
        dovecot.append(user, message(f"old {n}"), flags="\\Seen" if n else None)
    running = watch(dovecot, user)
    running.user = user
    for n in range(2):
        dovecot.deliver(user, message(f"told {n}"))
    bus.wait(lambda: len(subjects(bus)) == 2)
    settle(bus)
    return running


def begin_again(daemon, bus, dovecot):
    """Starts it after mail has come; what it tells of what it missed."""
    dovecot.deliver(daemon.user, message("while away"))
    mark = bus.mark()
    daemon.start()
    bus.wait_for_state("work", "INBOX")
    assert not bus.matching("MailboxReset", since=mark)
    assert not bus.matching("Expunged", since=mark)
    with dovecot.client(daemon.user) as client:
        [(_, [status])] = [client.status("INBOX", "(MESSAGES UNSEEN)")]
    box = bus.mailbox("work", "INBOX")
    assert f"(MESSAGES {box['Messages']} UNSEEN {box['Unread']})".encode() in status
    return subjects(bus, mark)


def stop(daemon, bus):
    daemon.stop()
    bus.wait(lambda: not bus.owner, what="the name to be free")


def garble(path):
    path.write_bytes(b"garbage" * 10000)


def make_newer(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()


def drop_table(path):
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE messages")
    database.close()


def halve(path):
    os.truncate(path, path.stat().st_size // 8192 * 4096)


@pytest.mark.parametrize("harm", [garble, make_newer, drop_table, halve])
def test_a_file_that_is_no_good(life, bus, dovecot, harm):
    stop(life, bus)
    harm(life.state / "mailidle.db")
    assert begin_again(life, bus, dovecot) == []
    assert "set aside" in life.log
    assert len(set_aside(life)) == 1
    dovecot.deliver(life.user, message("known again"))
    bus.wait(lambda: subjects(bus)[-1] == "known again")
    settle(bus)
    life.kill()
    assert begin_again(life, bus, dovecot) == ["while away"]
    assert len(set_aside(life)) == 1


def test_no_file(life, bus, dovecot):
    stop(life, bus)
    (life.state / "mailidle.db").unlink()
    assert begin_again(life, bus, dovecot) == []


def remove(path):
    path.unlink()


def remove_all(path):
    shutil.rmtree(path.parent)


def remove_log(path):
    path.with_name("mailidle.db-wal").unlink()


def truncate(path):
    os.truncate(path, 0)


def truncate_log(path):
    os.truncate(path.with_name("mailidle.db-wal"), 0)


def replace_by_older(path):
    """As somebody who restores a backup."""
    older = path.with_name("backup")
    shutil.copyfile(path.with_name("older"), older)
    older.replace(path)


def overwrite_by_older(path):
    shutil.copyfile(path.with_name("older"), path)


@pytest.mark.parametrize(
    "harm",
    [
        garble,
        truncate,
        halve,
        remove,
        remove_all,
        remove_log,
        truncate_log,
        replace_by_older,
        overwrite_by_older,
    ],
)
def test_harm_while_it_runs(life, bus, dovecot, harm):
    """What is in memory is stored again."""
    stop(life, bus)
    shutil.copyfile(life.state / "mailidle.db", life.state / "older")
    life.start()
    bus.wait_for_state("work", "INBOX")
    mark = bus.mark()
    dovecot.deliver(life.user, message("before"))
    bus.wait(lambda: subjects(bus, mark) == ["before"])
    settle(bus)
    if harm is truncate_log:
        # The cursor that the first reply came with is written behind it, and a log that is cut
        # meanwhile grows again over the cut.
        settle(bus)
    harm(life.state / "mailidle.db")
    dovecot.deliver(life.user, message("after"))
    bus.wait(lambda: subjects(bus, mark) == ["before", "after"])
    settle_after_loss(life, bus)
    life.kill()
    assert begin_again(life, bus, dovecot) == ["while away"]
    stop(life, bus)
    assert begin_again(life, bus, dovecot) == ["while away"]


def test_harm_while_it_is_written(life, bus, dovecot):
    """Between two batches, again and again."""
    path = life.state / "mailidle.db"
    for n in range(6):
        dovecot.deliver(life.user, message(f"harm {n}"))
        bus.wait(lambda: subjects(bus)[-1] == f"harm {n}")
        path.unlink(missing_ok=True)
    # What is done to the file after the last batch shows at the next one.
    dovecot.deliver(life.user, message("unharmed"))
    bus.wait(lambda: subjects(bus)[-1] == "unharmed")
    settle_after_loss(life, bus)
    life.kill()
    assert begin_again(life, bus, dovecot) == ["while away"]


def test_harm_while_nothing_happens(life, bus, dovecot):
    """It is noticed at the latest when it ends."""
    (life.state / "mailidle.db").unlink()
    stop(life, bus)
    assert begin_again(life, bus, dovecot) == ["while away"]


def test_stopped_mailboxes_survive_harm(life, bus, dovecot):
    bus.call("Stop", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "stopped")
    (life.state / "mailidle.db").unlink()
    stop(life, bus)
    dovecot.deliver(life.user, message("while stopped"))
    mark = bus.mark()
    life.start()
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX")
    assert subjects(bus, mark) == ["while stopped"]


def limit_size(daemon, size):
    """No file of the daemon's may grow beyond this: a full disk, and it stops root as well."""
    _, highest = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, highest))


@pytest.mark.parametrize("ends_by", ["change", "stop"])
def test_a_full_disk(life, bus, dovecot, ends_by):
    limit_size(life, 0)
    for n in range(20):
        dovecot.deliver(life.user, message(f"full {n}"))
    with dovecot.client(life.user) as client:
        client.select("INBOX")
        client.store("1:3", "+FLAGS", "\\Flagged")
        client.store("4", "+FLAGS", "\\Deleted")
        client.expunge()
    bus.wait(lambda: len(subjects(bus)) == 22)
    bus.wait_for_signal("Expunged")
    life.wait_for_log("cannot be kept")
    bus.call("Stop", "ss", "work", "INBOX")
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX")
    limit_size(life, resource.RLIM_INFINITY)
    if ends_by == "change":
        dovecot.deliver(life.user, message("room again"))
        bus.wait(lambda: subjects(bus)[-1] == "room again")
        life.wait_for_log("is kept again")
        settle(bus)
        life.kill()
    else:
        stop(life, bus)
        assert "is kept again" in life.log
    mark = bus.mark()
    assert begin_again(life, bus, dovecot) == ["while away"]
    assert not bus.matching("FlagsChanged", since=mark)


def test_killed_after_pushes(life, bus, dovecot):
    """Until a command is answered the cursor says nothing of what was pushed, which has been told
    all the same."""
    mark = bus.mark()
    dovecot.deliver(life.user, message("pushed"))
    bus.wait(lambda: subjects(bus, mark) == ["pushed"])
    with dovecot.client(life.user) as client:
        client.select("INBOX")
        client.store("2", "+FLAGS", "\\Flagged")
    bus.wait_for_signal("FlagsChanged", since=mark)
    # Its reply comes when nothing is left to be stored; no server is asked anything.
    bus.call("Reload")
    life.kill()
    mark = bus.mark()
    assert begin_again(life, bus, dovecot) == ["while away"]
    assert not bus.matching("FlagsChanged", since=mark)


def test_full_until_the_end(life, bus, dovecot):
    """What could not be stored is told again, and no more than that."""
    limit_size(life, 0)
    dovecot.deliver(life.user, message("not stored"))
    bus.wait(lambda: subjects(bus)[-1] == "not stored")
    life.kill()
    assert begin_again(life, bus, dovecot) == ["not stored", "while away"]


def test_stopped_on_a_full_disk(life, bus, dovecot):
    """What could not be stored is known to an account that begins anew."""
    limit_size(life, 0)
    bus.call("Stop", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "stopped")
    life.configure(Account("work", dovecot, life.user, options={"preview": True}))
    bus.call("Reload")
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"


def can_mount():
    return (
        subprocess.run(
            ["unshare", "-rm", "true"], stdin=subprocess.DEVNULL, capture_output=True
        ).returncode
        == 0
    )


MOUNTS = {
    "read-only": 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"',
    "full": 'mount -t tmpfs -o size=16k,mode=700 none "$0"; head -c 16k /dev/zero >"$0/f"',
}


def run_behind(daemon, *words):
    """The daemon becomes what this command runs."""
    command = daemon.command
    daemon.command = lambda *arguments: [*words, *command(*arguments)]


def run_on(daemon, kind):
    """... with another mount in the place of its state folder."""
    mount = MOUNTS[kind] + ' && exec "$@"'
    run_behind(daemon, "unshare", "-rm", "sh", "-c", mount, str(daemon.state))


needs_mounts = pytest.mark.skipif(not can_mount(), reason="no mount namespace for us")


@needs_mounts
@pytest.mark.parametrize("kind", ["read-only", "full"])
def test_a_folder_that_cannot_be_written(new_daemon, bus, dovecot, kind):
    """From the beginning: it works as long as it runs."""
    user = dovecot.user()
    for n in range(5):
        dovecot.append(user, message(f"old {n}"))
    daemon = new_daemon().configure(Account("work", dovecot, user))
    daemon.state.mkdir(0o700)
    run_on(daemon, kind)
    daemon.start()
    bus.wait_for_state("work", "INBOX")
    assert "cannot be kept" in daemon.log
    for n in range(3):
        dovecot.deliver(user, message(f"new {n}"))
    bus.wait(lambda: subjects(bus) == ["new 0", "new 1", "new 2"])
    assert daemon.log.count("cannot be kept") == 1
    daemon.restart()
    bus.wait_for_state("work", "INBOX")
    # Nothing is known, and nothing is told.
    assert len(subjects(bus)) == 3
    assert bus.mailbox("work", "INBOX")["Messages"] == 8


@pytest.mark.parametrize("kind", [pytest.param("read-only", marks=needs_mounts), "full"])
def test_a_state_that_can_be_read_alone(life, bus, dovecot, kind):
    """What is stored is known; what cannot be stored is told again, and no more than that."""
    stop(life, bus)
    command = life.command
    if kind == "full":
        run_behind(life, "sh", "-c", 'ulimit -S -f 0 && exec "$0" "$@"')
    else:
        run_on(life, kind)
    assert begin_again(life, bus, dovecot) == ["while away"]
    life.wait_for_log("cannot be kept")
    assert life.log.count("cannot be kept") == 1
    stop(life, bus)
    life.command = command
    assert begin_again(life, bus, dovecot) == ["while away", "while away"]
    stop(life, bus)
    assert begin_again(life, bus, dovecot) == ["while away"]
