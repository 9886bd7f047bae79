"""Builds mailidle and runs its tests; tests/run is how it is started.

Everything that it makes lies below build/: a build folder for each kind of build, and in it the
results of the unit tests (meson-logs/testlog.json) and of those of the daemon (daemon.junit.xml).
"""

import argparse
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree

import secrecy
from workplace import TOP, BuildError, build, locked, temporary

SANITIZE = ["-Db_sanitize=address,undefined", "-Dwerror=true"]
RELEASE = ["--buildtype=release"]
# The tests of the daemon mostly wait: more of them at a time than there are cores.
N_WORKERS = "4"
TAP = re.compile(r"^(not )?ok\b[^#]*(#\s*skip\b)?", re.IGNORECASE | re.MULTILINE)
BAD = {"FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"}


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Builds mailidle with sanitizers and runs its tests.",
        epilog="Other options go to pytest. The last line counts every case of every test.",
    )
    parser.add_argument("-k", metavar="WORDS", help="tests whose names match, as in pytest")
    parser.add_argument("--unit", action="store_true", help="the unit tests alone")
    parser.add_argument("--daemon", action="store_true", help="the tests of the daemon alone")
    parser.add_argument("--release", action="store_true", help="an optimised build, no sanitizers")
    parser.add_argument(
        "what",
        nargs="*",
        help="names of unit tests, files of tests/daemon, test_file.py::test_name",
    )
    return parser.parse_known_intermixed_args()


def matches(words, name):
    """Whether a unit test's name satisfies pytest's -k."""
    truth = re.sub(
        r"[^\s()]+",
        lambda word: word[0]
        if word[0] in ("and", "or", "not")
        else str(word[0].lower() in name.lower()),
        words,
    )
    return eval(truth)


def locate(what):
    """A test of the daemon as pytest wants it, from wherever we were called."""
    file, _, rest = what.partition("::")
    for folder in (pathlib.Path.cwd(), TOP, TOP / "tests/daemon"):
        for name in (file, f"{file}.py"):
            if (folder / name).exists():
                return f"{folder / name}{'::' if rest else ''}{rest}"
    sys.exit(f"tests/run: no test is called {what}")


def unit_tests(folder):
    told = subprocess.run(
        ["meson", "introspect", "--tests", folder], check=True, stdout=subprocess.PIPE
    )
    return [test["name"] for test in json.loads(told.stdout)]


def run_unit_tests(folder, names, count):
    log = folder / "meson-logs/testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *names]
    done = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL)
    tests = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    n_failed = count["failed"]
    for test in tests:
        cases = collections.Counter(
            "failed" if match[1] else "skipped" if match[2] else "passed"
            for match in TAP.finditer(test.get("stdout") or "")
        )
        if test["result"] in BAD:
            # meson shows what it wrote to stderr alone.
            print(f"-- {test['name']}\n{test.get('stdout') or ''}", flush=True)
            # None: it died, or a sanitizer spoke after the last case.
            cases["failed"] = cases["failed"] or 1
        elif not cases:
            cases["skipped" if test["result"] == "SKIP" else "passed"] += 1
        count.update(cases)
    if done.returncode != 0 and count["failed"] == n_failed:
        count["failed"] += 1


def look_for_secrets(records, count):
    """None that a test used stands in anything that mailidle said, or the tests."""
    for record, user, form in secrecy.search(records):
        print(f"The secret of {user or 'somebody'} ({form}) is in {record}")
        count["failed"] += 1


def run_shown(command, env, record):
    """Runs it; what it prints is shown and, where all is well, recorded. Returns its exit code."""
    said = bytearray()
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env
    ) as process:
        while octets := process.stdout.read1():
            said += octets
            sys.stdout.buffer.write(octets)
            sys.stdout.buffer.flush()
    if process.returncode == 0:
        record.write_bytes(said)
    return process.returncode


def run_daemon_tests(folder, temporary_folder, selection, count):
    results = temporary_folder / "daemon.junit.xml"
    records = temporary_folder / "records"
    records.mkdir(mode=0o700)
    returncode = run_shown(
        [
            *("/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q"),
            *("-n", N_WORKERS, "--dist=loadgroup"),
            *(f"--junit-xml={results}", "--rootdir", TOP / "tests"),
            *(("--color=yes",) if sys.stdout.isatty() else ()),
            *selection,
        ],
        env={
            **os.environ,
            "MAILIDLE_BUILD": str(folder),
            "MAILIDLE_RECORDS": str(records),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        record=records / "pytest",
    )
    n_failed = count["failed"]
    if results.exists():
        kept = folder / results.name
        kept.write_bytes(results.read_bytes())
        print(f"That file is kept as {kept.relative_to(TOP)}.")
        reasons = collections.Counter()
        for case in xml.etree.ElementTree.parse(results).iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                count["failed"] += 1
            elif "skipped" in kinds:
                count["skipped"] += 1
                reasons[case.find("skipped").get("message")] += 1
            else:
                count["passed"] += 1
        for reason, n_cases in reasons.items():
            print(f"{n_cases} skipped: {reason}")
    # 5: nothing was selected, which is no failure when unit tests were.
    if returncode not in (0, 5) and count["failed"] == n_failed:
        count["failed"] += 1
    look_for_secrets(records, count)


def run(options, others, count):
    folder = TOP / "build" / ("release" if options.release else "sanitize")
    # Undefined behaviour is a failure, not a remark.
    os.environ["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    with temporary() as place:
        with locked(folder):
            print(f"== build ({folder.relative_to(TOP)})", flush=True)
            build(folder, *(RELEASE if options.release else SANITIZE))
            names = unit_tests(folder)
            chosen = [what for what in options.what if what in names]
            files = [locate(what) for what in options.what if what not in names]
            if not options.what:
                chosen = [] if options.daemon else names
            if options.k:
                chosen = [name for name in chosen if matches(options.k, name)]
            if chosen:
                print("== unit tests", flush=True)
                run_unit_tests(folder, chosen, count)
        if not options.unit and (files or not options.what):
            print("== daemon", flush=True)
            selection = [*others, *(files or [TOP / "tests/daemon"])]
            if options.k:
                selection += ["-k", options.k]
            run_daemon_tests(folder, place.folder, selection, count)
    if place.left_behind:
        print("Left behind by a test, and ended:", *place.left_behind)
        count["failed"] += 1


def main():
    options, others = arguments()
    # As Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    count = collections.Counter()
    try:
        run(options, others, count)
    except BuildError as error:
        print(error, file=sys.stderr)
        count["failed"] += 1
    except KeyboardInterrupt:
        count["failed"] += 1
    sys.stdout.flush()
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
