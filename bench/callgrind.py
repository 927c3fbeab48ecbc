"""Runs count_bench under callgrind, and reads what it wrote.

The C library chooses its memcpy by the processor; here it is told to take the one that
every x86-64 has, so that a copy costs the same instructions on each machine.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile

from topology import BenchError

TUNABLES = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM"
COMMAND = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"]


class Profile:
    """What one cell of count_bench did, and the instructions that it took."""

    def __init__(self, done, path):
        self.unit = done["unit"]
        self.units = done["units"]
        self.packets = done["packets"]
        self.functions = {}  # name -> [instructions of its own, files: the one of its entry first]
        self.instructions = 0
        self.read(path)

    def read(self, path):
        names = {}  # callgrind gives a name once, with a number, and then the number
        function, file, after_call = None, "", False

        def name(kind, text):
            number, given = re.match(r"(\(\d+\))? ?(.*)", text).groups()
            if number is None:
                return given
            if given:
                names[kind, number] = given
            return names[kind, number]

        with open(path, encoding="utf-8") as lines:
            for line in lines:
                line = line.rstrip("\n")
                key, equals, value = line.partition("=")
                if equals and key in ("fl", "fi", "fe"):
                    file = name("file", value)
                elif equals and key == "fn":
                    function = self.functions.setdefault(name("function", value), [0, [file]])
                elif equals and key in ("cfi", "cfl"):
                    name("file", value)
                elif equals and key == "cfn":
                    name("function", value)
                elif key == "calls":
                    after_call = True  # the next line is what the call cost in all
                elif line.startswith("summary:") or line.startswith("totals:"):
                    self.instructions = int(line.split()[1])
                elif line[:1].isdigit() or line[:1] in "+-*":
                    cost = line.split()[1:]  # a line without is one that did not count
                    if cost and not after_call:
                        function[0] += int(cost[0])
                        if file not in function[1]:
                            function[1].append(file)
                    after_call = False

    def per_unit(self):
        return self.instructions / self.units


def run(bin_dir, cells):
    """cell -> Profile"""
    if shutil.which("valgrind") is None:
        raise BenchError("valgrind is missing: apt-get install valgrind (or ./tools/dev setup)")
    program = os.path.join(bin_dir, "count_bench")
    if not os.access(program, os.X_OK):
        raise BenchError(f"{program} is missing: ./tools/dev build release")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        done = subprocess.run([*COMMAND, f"--callgrind-out-file={out}", program, *cells],
                              env={**os.environ, "GLIBC_TUNABLES": TUNABLES},
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise BenchError(f"count_bench under valgrind: {done.stderr.strip()[-2000:]}")
        results = [json.loads(line) for line in done.stdout.splitlines()]
        # Each cell has a file, in order, and says its name in it.
        profiles = {}
        for number, result in enumerate(results, 1):
            path = f"{out}.{number}"
            with open(path, encoding="utf-8") as file:
                if f"Client Request: {result['cell']}\n" not in file.read(4096):
                    raise BenchError(f"callgrind's profile {number} is not of {result['cell']}")
            profiles[result["cell"]] = Profile(result, path)
        return profiles
