#!/usr/bin/env python3
"""The C ABI from outside: what the library exports, what its header asks of a compiler.

    abi_test.py LIBRARY BIN_DIR CC CXX [CASE...]

LIBRARY is the built libpenstock.so. calls.c and layout.c beside this file are the rest: a
program that calls everything, and sizes, places and values as they are recorded. CMake runs
each case as one ctest test.
"""

import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HEADER = os.path.join(SOURCE, "stack", "penstock.h")
LIBRARY, BIN, CC, CXX = sys.argv[1:5]
LIMIT = 40  # seconds that any one command or answer may take


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*command):
    return subprocess.run(command, check=True, timeout=LIMIT, text=True,
                          stdout=subprocess.PIPE).stdout


class Abi(unittest.TestCase):
    def test_exports(self):
        """Exactly the recorded names, which are those that the header declares."""
        table = run("nm", "--dynamic", "--defined-only", "--format=posix", LIBRARY)
        names = {line.split()[0].split("@")[0] for line in table.splitlines()}
        names.discard("PENSTOCK_0")
        recorded = read(os.path.join(HERE, "exports")).split()
        self.assertEqual(recorded, sorted(recorded))
        self.assertEqual(names, set(recorded))
        text = re.sub(r"/\*.*?\*/", "", read(HEADER), flags=re.DOTALL)
        declared = re.findall(r"PENSTOCK_API[^;{]*?\b(penstock_\w+)\(", text)
        self.assertEqual(sorted(declared), recorded)

    def test_library_name(self):
        """Programs ask the loader for this one."""
        self.assertIn("[libpenstock.so.0]", run("readelf", "--dynamic", LIBRARY))

    def test_version(self):
        found = re.search(r"^project\(penstock VERSION (\d+)\.(\d+)\.(\d+)",
                          read(os.path.join(SOURCE, "CMakeLists.txt")), re.MULTILINE)
        header = re.findall(r"#define PENSTOCK_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", read(HEADER))
        self.assertEqual(header, list(found.groups()))

    def test_header(self):
        """Of any of these languages, without a word from the compiler."""
        for compiler, language, standard in ((CC, "c", "c11"), (CC, "c", "c17"),
                                             (CXX, "c++", "c++11"), (CXX, "c++", "c++20")):
            run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror",
                "-pedantic", "-fsyntax-only", HEADER)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(f"Abi.{case}" for case in sys.argv[5:])])
