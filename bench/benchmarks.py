"""The benchmarks there are, and their options. Each is a module with

    SUMMARY, STACKS, KNOWN_STACKS     what it is, and on which stacks it runs
    LEGENDS                           a line about each of them
    require_programs(stacks, bin_dir) raises BenchError if something is not installed or built
    add_options(command)              its own options, for argparse
    planned_seconds(options)          how long a repetition takes, about
    measure(repetition, options, record)    one repetition, over all stacks
    show(results)                     prints tables; False if penstock failed somewhere
"""

import argparse
import os

import floor
import idle
import machine
import publish
import throughput
import udp
from options import a_list, positive

BENCHMARKS = {module.__name__: module for module in (throughput, publish, udp, idle, floor, machine)}
BIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "release", "bin")


def add_options(command, name):
    module = BENCHMARKS[name]
    command.add_argument("--repetitions", type=positive(int), default=3, metavar="N",
                         help="of everything (3)")
    command.add_argument("--stacks", type=a_list(module.KNOWN_STACKS), metavar="A,B",
                         default=module.STACKS, help=f"of {', '.join(module.KNOWN_STACKS)}"
                         f" ({','.join(module.STACKS)})")
    add_bin(command)
    module.add_options(command)


def add_bin(command):
    command.add_argument("--bin", metavar="DIR", default=BIN, type=os.path.abspath,
                         help="where traffic_bench and penstock are (build/release/bin)")


def options_of(name, arguments):
    """The options of a benchmark that is part of something larger."""
    command = argparse.ArgumentParser(prog=name)
    add_options(command, name)
    return command.parse_args(arguments)
