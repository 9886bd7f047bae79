"""Fuzzes what reads octets of others, and measures what the tests cover; tests/fuzz starts it.

What is read stands in tests/fuzzing, a file for each target. A run begins with what is kept in the
tree and with what runs before it found in build/fuzz/corpus, where new units go. Findings stay in
build/fuzz/findings until they are mended; those worth keeping become files of
tests/fuzzing/corpus, which tests/run replays.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from workplace import TOP, BuildError, build, locked

FOLDER = TOP / "build/fuzz"
KEPT = TOP / "tests/fuzzing/corpus"
CONVERSATIONS = TOP / "tests/conversations"
DICTIONARY = TOP / "tests/fuzzing/words.dict"
N_AT_A_TIME = 2
# A target that stops so often is not restarted.
N_FINDINGS_MAX = 5
OPTIONS = [
    *("-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dfuzzing=true"),
    "-Dwerror=true",
]
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=256", "-print_final_stats=1"]
# What a target has beside the corpus of its name: (the longest input, further seeds).
TARGETS = {
    "engine": (8192, (CONVERSATIONS,)),
    "message": (4096, (FOLDER / "seeds/message", KEPT / "response")),
    "config": (4096, ()),
    "bus": (4096, ()),
    "mime": (4096, ()),
    "response": (4096, (FOLDER / "seeds/response",)),
}
COVERAGE_FLAGS = "-fprofile-instr-generate -fcoverage-mapping"
MEASURED = ("src/imap", "src/mime")
PROGRESS = re.compile(rb"cov: (\d+) ft: (\d+)")
STATISTIC = re.compile(rb"^stat::(\w+):\s+(\d+)", re.MULTILINE)


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/fuzz",
        description="Feeds octets by chance, steered by coverage, to all that reads what others "
        "wrote. Exit code 1: there is a finding.",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=2,
        metavar="N",
        help="how long all targets take together (default: 2)",
    )
    parser.add_argument(
        "--target", nargs="+", choices=sorted(TARGETS), metavar="NAME", help=", ".join(TARGETS)
    )
    parser.add_argument(
        "--minimise",
        action="store_true",
        help="instead: add to tests/fuzzing/corpus what covers more than is covered there",
    )
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="instead: the lines and branches of src/imap and src/mime that unit tests, "
        "conversations and corpora reach",
    )
    parser.add_argument(
        "--missed", action="store_true", help="with --coverage: print the lines that nothing reaches"
    )
    return parser.parse_args()


# -- seeds --


def octets_of(line, count=None):
    """As script_expand() of tests/unit/script.c."""
    data = re.sub(rb"\$\d", lambda match: b"AAAA" + match[0][1:], line)
    data = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), data)
    if count is not None:
        data = re.sub(
            rb"%n(?:\+(\d+))?", lambda match: str(count + int(match[1] or 0)).encode(), data
        )
    return data


def said_by_server(conversation):
    said = b""
    for line in conversation.read_bytes().split(b"\n"):
        if line.startswith((b"S: ", b"S:")):
            said += octets_of(line[3:]) + b"\r\n"
        elif line.startswith(b"S+"):
            said += octets_of(line[3:])
        elif line.startswith(b"S* "):
            _, times, text = line.split(b" ", 2)
            # The parser has no memory of responses: a few are as good as a thousand.
            said += b"".join(octets_of(text, n) + b"\r\n" for n in range(1, min(int(times), 4) + 1))
    return said


def write_seeds():
    """The server's side of every conversation: for the parser, also with literals in chunks; what
    it has of messages, for those who show them."""
    shutil.rmtree(FOLDER / "seeds", ignore_errors=True)
    for name in ("response", "message"):
        (FOLDER / "seeds" / name).mkdir(parents=True)
    for conversation in sorted(CONVERSATIONS.glob("*.txt")):
        said = said_by_server(conversation)
        for name, octets in (
            (f"response/{conversation.stem}", b"\x00\x06" + said),
            (f"response/{conversation.stem}-streaming", b"\x01\x2f" + said),
            (f"message/{conversation.stem}", said if b" FETCH (" in said else b""),
        ):
            if octets:
                (FOLDER / "seeds" / name).write_bytes(octets)


# -- fuzzing --


class Target:
    def __init__(self, name):
        self.name = name
        self.length, more = TARGETS[name]
        self.program = FOLDER / f"fuzz-{name}"
        self.corpus = FOLDER / "corpus" / name
        self.seeds = [folder for folder in (KEPT / name, *more) if folder.is_dir()]
        self.findings = []
        self.count = {"number_of_executed_units": 0, "new_units_added": 0}
        self.seconds = 0
        self.edges = self.features = 0

    def once(self, seconds, log):
        """Runs until the time is over or something is found."""
        prefix = FOLDER / "findings" / f"{self.name}-"
        before = set(prefix.parent.glob(f"{prefix.name}*"))
        command = [
            *(self.program, *LIMITS, f"-max_total_time={max(1, int(seconds))}"),
            *(f"-max_len={self.length}", f"-artifact_prefix={prefix}"),
            *([f"-dict={DICTIONARY}"] if DICTIONARY.exists() else []),
            *(self.corpus, *self.seeds),
        ]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        self.seconds += time.monotonic() - begin
        text = pathlib.Path(log.name).read_bytes()
        # libFuzzer's own code for Ctrl-C.
        if done.returncode in (0, 72):
            return text
        new = sorted(set(prefix.parent.glob(f"{prefix.name}*")) - before)
        self.findings += new or [pathlib.Path(log.name)]
        return text

    def fuzz(self, seconds):
        end = time.monotonic() + seconds
        self.corpus.mkdir(parents=True, exist_ok=True)
        while len(self.findings) < N_FINDINGS_MAX and not stopping:
            remaining = end - time.monotonic()
            if remaining < 1:
                break
            with open(FOLDER / f"log/{self.name}-{len(self.findings)}.log", "wb") as log:
                text = self.once(remaining, log)
            for name, value in STATISTIC.findall(text):
                if name.decode() in self.count:
                    self.count[name.decode()] += int(value)
            for edges, features in PROGRESS.findall(text)[-1:]:
                self.edges = max(self.edges, int(edges))
                self.features = max(self.features, int(features))
        self.report()

    def report(self):
        n = self.count["number_of_executed_units"]
        print(
            f"{self.name:>10} {n:>12,} {n / max(self.seconds, 1):>9,.0f} {self.edges:>8,} "
            f"{self.features:>9,} {self.count['new_units_added']:>9,} {len(self.findings):>9}",
            flush=True,
        )
        for path in self.findings:
            if path.suffix == ".log":
                print(f"           see {path.relative_to(TOP)}")
            else:
                print(f"           {self.program.relative_to(TOP)} {path.relative_to(TOP)}")

    def minimise(self):
        """libFuzzer merges into its first folder what covers more than is covered there: that is
        begun with all seeds."""
        merged = FOLDER / "merged" / self.name
        shutil.rmtree(merged, ignore_errors=True)
        merged.mkdir(parents=True)
        for seed in (path for folder in self.seeds for path in folder.iterdir()):
            shutil.copy(seed, merged)
        known = {path.name for path in merged.iterdir()}
        # How often an edge is taken makes many units, which tests/run would have to replay.
        options = [
            *("-merge=1", "-use_counters=0", f"-max_len={self.length}", "-timeout=10"),
            f"-artifact_prefix={FOLDER}/findings/{self.name}-",
        ]
        command = [self.program, *options, merged, self.corpus]
        with open(FOLDER / f"log/{self.name}-merge.log", "wb") as log:
            subprocess.run(command, cwd=TOP, check=True, stderr=log, stdout=log)
        new = [path for path in merged.iterdir() if path.name not in known]
        (KEPT / self.name).mkdir(parents=True, exist_ok=True)
        for path in new:
            shutil.copy(path, KEPT / self.name / path.name[:12])
        print(f"{self.name:>10} {len(new):,} units")


stopping = False


def stop(*_):
    """The programs hear of Ctrl-C themselves; they end, and what they found is told."""
    global stopping
    stopping = True


def choose_clang():
    """Others have neither libFuzzer nor llvm-cov."""
    if "clang" not in os.environ.get("CC", ""):
        os.environ["CC"] = "clang-14"


def build_targets():
    choose_clang()
    print(f"== build ({FOLDER.relative_to(TOP)})", flush=True)
    build(FOLDER, *OPTIONS)
    write_seeds()
    for name in ("log", "findings", "corpus"):
        (FOLDER / name).mkdir(exist_ok=True)


def fuzz(options):
    targets = [Target(name) for name in options.target or TARGETS]
    n_at_a_time = min(N_AT_A_TIME, len(targets))
    seconds = options.minutes * 60 * n_at_a_time / len(targets)
    os.environ["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    print(f"== {seconds:.0f} s for each target, {n_at_a_time} at a time")
    heads = ("executions", "exec/s", "edges", "features", "new units", "findings")
    print(f"{'':>10} {heads[0]:>12} {heads[1]:>9} {heads[2]:>8}", *(f"{h:>9}" for h in heads[3:]))
    with concurrent.futures.ThreadPoolExecutor(n_at_a_time) as pool:
        for done in [pool.submit(target.fuzz, seconds) for target in targets]:
            done.result()
    n_executions = sum(target.count["number_of_executed_units"] for target in targets)
    n_findings = sum(len(target.findings) for target in targets)
    print(f"{n_executions:,} executions, {n_findings} findings")
    return 1 if n_findings or stopping else 0


# -- coverage --


def percent(covered, count):
    return 100 * covered / count if count else 100.0


def print_coverage(files):
    print(f"{'':<28} {'lines':>7} {'missed':>7} {'%':>7} {'branches':>9} {'missed':>7} {'%':>7}")

    def row(name, lines, branches):
        print(
            f"{name:<28} {lines[0]:>7,} {lines[0] - lines[1]:>7,} "
            f"{percent(lines[1], lines[0]):>7.2f} {branches[0]:>9,} "
            f"{branches[0] - branches[1]:>7,} {percent(branches[1], branches[0]):>7.2f}"
        )

    for folder in MEASURED:
        sums = {"lines": [0, 0], "branches": [0, 0]}
        for name, summary in sorted(files.items()):
            if pathlib.PurePath(name).parent.as_posix() != folder:
                continue
            pair = {k: (summary[k]["count"], summary[k]["covered"]) for k in sums}
            row(name, pair["lines"], pair["branches"])
            for k, total in sums.items():
                total[0] += pair[k][0]
                total[1] += pair[k][1]
        row(f"{folder} in sum", sums["lines"], sums["branches"])


def print_missed(shown):
    """Lines of code that nothing reached, of llvm-cov's annotated source."""
    file = None
    for line in shown.splitlines():
        if re.match(r"^/.*:$", line):
            path = os.path.relpath(line[:-1], TOP)
            file = path if os.path.dirname(path) in MEASURED else None
        missed = re.match(r"^ *(\d+)\| +0\|(.*)", line)
        if file and missed:
            print(f"{file}:{missed[1]}:{missed[2]}")


def coverage(options):
    folder = TOP / "build/coverage"
    choose_clang()
    with locked(folder):
        print(f"== build ({folder.relative_to(TOP)})", flush=True)
        flags = [f"-D{which}={COVERAGE_FLAGS}" for which in ("c_args", "c_link_args")]
        build(folder, "-Dhardened=false", *flags)
        profiles = folder / "profiles"
        shutil.rmtree(profiles, ignore_errors=True)
        print("== unit tests, conversations, corpora", flush=True)
        done = subprocess.run(
            ["meson", "test", "-C", folder, "--no-rebuild", "--quiet"],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LLVM_PROFILE_FILE": str(profiles / "%2m.profraw")},
        )
        merged = folder / "tests.profdata"
        raw = sorted(profiles.glob("*.profraw"))
        subprocess.run(
            ["llvm-profdata-14", "merge", "-sparse", "-o", merged, *raw], cwd=TOP, check=True
        )
        programs = sorted([*folder.glob("test-*[!p]"), *folder.glob("fuzz-*[!p]")])
        programs = [path for path in programs if path.is_file() and os.access(path, os.X_OK)]
        objects = [programs[0], *(word for path in programs[1:] for word in ("-object", path))]
        what = [f"-instr-profile={merged}", *objects]
        told = subprocess.run(
            ["llvm-cov-14", "export", "-summary-only", *what],
            check=True,
            stdout=subprocess.PIPE,
            # That every program has a main() of its own.
            stderr=subprocess.DEVNULL,
        )
        report = json.loads(told.stdout)["data"][0]["files"]
        print_coverage(
            {
                os.path.relpath(os.path.realpath(folder / file["filename"]), TOP): file["summary"]
                for file in report
            }
        )
        if options.missed:
            shown = subprocess.run(
                ["llvm-cov-14", "show", *what],
                check=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
            print_missed(shown.stdout)
    return done.returncode


def main():
    options = arguments()
    try:
        if options.coverage:
            return coverage(options)
        with locked(FOLDER):
            build_targets()
            if not options.minimise:
                return fuzz(options)
            for name in options.target or TARGETS:
                Target(name).minimise()
            return 0
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted")
        return 1


if __name__ == "__main__":
    sys.exit(main())
