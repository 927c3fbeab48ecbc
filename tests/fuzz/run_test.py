#!/usr/bin/python3
"""Tests of run.py: what it makes of libFuzzer's words, and how findings are told."""
import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run  # noqa: E402

SAYS = """\
#20\tINITED cov: 100 ft: 200 corp: 19/1Kb exec/s: 0 rss: 40Mb
#1000\tNEW    cov: 120 ft: 210 corp: 20/1Kb lim: 4 exec/s: 0 rss: 40Mb L: 1/2 MS: 1 X-
#4096\tpulse  cov: 120 ft: 215 corp: 20/1Kb lim: 4 exec/s: 0 rss: 40Mb
"""
STATISTICS = "stat::number_of_executed_units: 5000\n"
FOUND = "artifact_prefix='x/'; Test unit written to x/crash-1\n"


def played(folder, says, status):
    """A build folder whose DNS target says that and ends with that status."""
    os.makedirs(os.path.join(folder, "bin"))
    path = os.path.join(folder, "bin", "dns_fuzz")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\ncat >&2 <<'END'\n{says}END\nexit {status}\n")
    os.chmod(path, 0o755)


def outcome(says, status):
    told = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(told):
        played(folder, says, status)
        result = run.main(["--build", folder, "--seconds=60", "dns"])
    return result, told.getvalue()


class FuzzRun(unittest.TestCase):
    def test_coverage_and_where_it_stopped(self):
        result, told = outcome(SAYS + STATISTICS, 72)
        self.assertEqual(result, 0)
        row = told.splitlines()[-1].split()
        self.assertEqual(row[:2] + row[3:], ["dns", "5000", "120", "215", "1000"])

    def test_a_finding_is_told_with_how_to_play_it(self):
        result, told = outcome(SAYS + FOUND, 77)
        self.assertEqual(result, 1)
        self.assertRegex(told, r"bin/dns_fuzz \S*x/crash-1   plays it again")

    def test_whatever_ends_a_target_early_is_a_finding(self):
        self.assertEqual(outcome(SAYS, 1)[0], 1)

    def test_no_such_target(self):
        with self.assertRaisesRegex(SystemExit, "there is no fuzz target drain"):
            run.main(["drain"])


if __name__ == "__main__":
    unittest.main()
