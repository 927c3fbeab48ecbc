#!/usr/bin/python3
"""Runs fuzz targets, several at a time, and says what each has reached. `./tools/dev fuzz`
builds them and calls this.

  ./tools/dev fuzz                                  each for 60 s, two at a time
  ./tools/dev fuzz --seconds=300 --stack-seconds=1200
  ./tools/dev fuzz --seconds=30 dns policy          these two

What a target learns is kept in build/fuzz/corpus/NAME and is where the next run begins.
An input that ends one is kept in build/fuzz/found/NAME, and the program ends with status 1
and the command that plays it again.

The seconds are of CPU time: a target that has to share its core runs for longer. Coverage is
libFuzzer's: edges, and features (an edge with how often it was passed). "stopped" is the
execution after which no new edge was seen, of how many.
"""
import argparse
import glob
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# "#12345  NEW    cov: 678 ft: 910 corp: ..."; at times without coverage.
STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
KEPT = re.compile(r"Test unit written to (\S+)")
# What of one input is too slow or too large to be anything else than a finding.
LIMITS = ("-timeout=10", "-rss_limit_mb=2048")


class Target:
    """One fuzz target at work: libFuzzer's output is read line by line."""

    def __init__(self, name, seconds, build):
        self.name, self.seconds = name, seconds
        self.executions = self.edges = self.features = self.grew = 0
        self.cpu = 0.0
        self.kept = []
        found, learnt = os.path.join(build, "found", name), os.path.join(build, "corpus", name)
        for folder in (found, learnt):
            os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(build, "found", name + ".log")
        self.command = os.path.join(build, "bin", name + "_fuzz")
        # A day, should it never get its CPU time: the end is by that.
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.command, *LIMITS, "-max_total_time=86400", "-print_final_stats=1",
                 f"-artifact_prefix={found}/", learnt,
                 os.path.join(ROOT, "tests", "fuzz", "corpus", name)],
                stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT)

    def cpu_seconds(self):
        """So far; at its end what the last look said."""
        try:
            with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            return self.cpu
        now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.cpu = max(self.cpu, now)
        return self.cpu

    def running(self):
        """Also ends it when its time is over."""
        used = self.cpu_seconds()
        if self.process.poll() is not None:
            return False
        if used >= self.seconds:
            self.stop()
            return False
        return True

    def stop(self):
        """libFuzzer writes its statistics when it is interrupted."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def finish(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            for line in file:
                self.read(line)
        # Interrupted is how it ends when all is well.
        self.broken = bool(self.kept) or self.process.returncode not in (0, 72)
        return self

    def read(self, line):
        if match := STATUS.search(line):
            count, _, edges, features = match.groups()
            self.executions = max(self.executions, int(count))
            if int(edges) > self.edges:
                self.grew = int(count)
            self.edges, self.features = int(edges), int(features)
        if match := EXECUTED.search(line):
            self.executions = int(match.group(1))
        if match := KEPT.search(line):
            self.kept.append(match.group(1))

    def row(self):
        rate = self.executions / self.cpu if self.cpu > 0 else 0
        return (self.name, str(self.executions), f"{rate:.0f}", str(self.edges),
                str(self.features), str(self.grew), "FOUND" if self.broken else "")


def table(rows):
    heading = ("target", "executions", "per CPU s", "edges", "features", "stopped", "")
    rows = [heading, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def options(arguments):
    parser = argparse.ArgumentParser(prog="./tools/dev fuzz", description="runs fuzz targets")
    parser.add_argument("--seconds", type=int, default=60, metavar="N",
                        help="CPU time of each (60)")
    parser.add_argument("--stack-seconds", type=int, metavar="N",
                        help="of the whole stack (as the others)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N",
                        help="targets at a time (2)")
    parser.add_argument("--build", default=os.path.join("build", "fuzz"), help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    return parser.parse_args(arguments)


def main(arguments):
    chosen = options(arguments)
    build = os.path.join(ROOT, chosen.build)
    known = sorted(os.path.basename(path)[:-len("_fuzz.cc")]
                   for path in glob.glob(os.path.join(ROOT, "tests", "fuzz", "*_fuzz.cc")))
    if unknown := set(chosen.names) - set(known):
        sys.exit(f"there is no fuzz target {', '.join(sorted(unknown))}: {', '.join(known)}")

    def seconds(name):
        return chosen.stack_seconds or chosen.seconds if name == "stack" else chosen.seconds

    # The longest first: they are what the others run beside.
    waiting = sorted(chosen.names or known, key=lambda name: -seconds(name))
    working, done = [], []
    try:
        while waiting or working:
            while waiting and len(working) < chosen.jobs:
                name = waiting.pop(0)
                print(f"fuzz {name}: {seconds(name)} s of CPU time", flush=True)
                working.append(Target(name, seconds(name), build))
            time.sleep(0.2)
            for target in [each for each in working if not each.running()]:
                working.remove(target)
                done.append(target.finish())
                print(f"fuzz {target.name}: {target.executions} executions, {target.edges} edges"
                      + (", and a finding" if target.broken else ""), flush=True)
    finally:
        for target in working:
            target.stop()
    print()
    table(target.row() for target in sorted(done, key=lambda target: target.name))
    broken = [target for target in done if target.broken]
    for target in broken:
        print(f"\n{target.name}: found something; libFuzzer says what in {target.log}")
        for path in target.kept:
            print(f"  {os.path.relpath(target.command, ROOT)} {os.path.relpath(path, ROOT)}"
                  "   plays it again")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
