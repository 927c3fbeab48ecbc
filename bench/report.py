"""bench/run report: all benchmarks in one run, and what it leaves in a folder.

    report.json    every result so far, written again with each (document.py)
    report.html    charts and targets (page.py)

The repetitions are the outermost loop, so that a run that is interrupted has the same
parts with fewer rounds, and so that a slow hour meets all benchmarks. The measuring part
runs inside the namespaces and writes JSON only; the part outside waits for its end,
whatever way it comes, and makes the page of what there is.
"""

import os

import benchmarks
import document
import page
import targets
import topology
from options import a_list, positive
from record import Record, duration

SUMMARY = "all of it in one run: a page with charts, targets, JSON"
BENCHMARKS = ("throughput", "publish", "udp", "idle")
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "bench")
BOTH = "1500,65520"
BULK = {"throughput": "up 1,down 1,up 8,down 8",
        "publish": "to guest 1,from guest 1,to guest 8,from guest 8"}
RATES = "round trips,close 1,close 64"

# The options of each benchmark: all that the targets ask for, and more MTUs and streams.
FULL = {
    "throughput": ["--rate-mtus", BOTH],
    "publish": ["--mtus", BOTH, "--rate-mtus", BOTH, "--cells", f"{BULK['publish']},{RATES}"],
    "udp": [],
    "idle": [],
}
QUICK = {
    "throughput": ["--mtus", BOTH, "--rate-mtus", BOTH, "--seconds", "0.5", "--cells",
                   f"{BULK['throughput']},{RATES}"],
    "publish": [*FULL["publish"], "--seconds", "0.5"],
    "udp": ["--seconds", "0.5", "--cells", "up flood,down flood,round trips"],
    "idle": ["--connections", "1000,9500,10000", "--seconds", "0.2"],
}


def add_options(command):
    command.add_argument("folder", nargs="?", default=FOLDER, type=os.path.abspath, metavar="DIR",
                         help="where report.json and report.html go (build/bench)")
    command.add_argument("--quick", action="store_true",
                         help="one repetition of short cells: some minutes, to look at")
    command.add_argument("--repetitions", type=positive(int), metavar="N",
                         help="of everything (5; quick: 1)")
    command.add_argument("--only", type=a_list(BENCHMARKS), default=list(BENCHMARKS),
                         metavar="A,B", help=f"of {', '.join(BENCHMARKS)} (all)")
    extra = ["penstock-r0", "penstock-r1"]
    command.add_argument("--also", type=a_list(extra), default=[], metavar="A,B",
                         help=f"more lines: {', '.join(extra)}")
    command.add_argument("--from", dest="source", type=os.path.abspath, metavar="FILE",
                         help="measure nothing: make the page again from a report.json")
    command.add_argument("--markdown", action="store_true",
                         help="print the short table of ratios that the README shows")
    benchmarks.add_bin(command)


def parts(options):
    """benchmark -> its options."""
    chosen = QUICK if options.quick else FULL
    repetitions = options.repetitions or (1 if options.quick else 5)
    found = {}
    for name in options.only:
        stacks = benchmarks.BENCHMARKS[name].STACKS + options.also
        found[name] = benchmarks.options_of(name, [
            "--bin", options.bin, "--repetitions", str(repetitions), "--stacks", ",".join(stacks),
            *chosen[name]])
    return found


def measure(options):
    """The part inside: one repetition of everything after the other."""
    settings = parts(options)
    about = document.machine()
    path = os.path.join(options.folder, "report.json")
    repetitions = max(each.repetitions for each in settings.values())
    record = Record(repetitions * sum(benchmarks.BENCHMARKS[name].planned_seconds(each)
                                      for name, each in settings.items()))
    record.save = lambda: document.write(path, document.make(about, settings, record, False))
    record.save()
    print(document.machine_line(about))
    for stack in dict.fromkeys(name for each in settings.values() for name in each.stacks):
        print(f"  {stack:12} {topology.LEGENDS[stack]}")
    print(f"{repetitions} repetitions, about {duration(record.left())}", flush=True)
    for repetition in range(1, repetitions + 1):
        for name, each in settings.items():
            try:
                benchmarks.BENCHMARKS[name].measure(repetition, each, record)
            except topology.BenchError as problem:  # the others are worth having
                print(f"\n{name} {repetition}: given up: {problem}", flush=True)
    document.write(path, document.make(about, settings, record, True))
    return 0


def present(data, options):
    """Tables in the terminal, and the page beside the JSON."""
    for name in BENCHMARKS:
        results = [result for result in data["results"] if result["benchmark"] == name]
        if results:
            benchmarks.BENCHMARKS[name].show(results)
    rows = targets.evaluate(data["results"])
    targets.print_rows(rows)
    if options.markdown:
        print(f"\n{page.markdown(data)}")
    path = os.path.join(options.folder, "report.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page.html(data))
    print(f"\n{document.machine_line(data['machine'])}\n"
          f"measured in {duration(data['seconds'])}" + ("" if data["complete"] else
                                                        ", INCOMPLETE: interrupted")
          + f"\n{path}", flush=True)


def run(options, enter):
    """The part outside. `enter`: measures inside the namespaces; its exit status."""
    os.makedirs(options.folder, exist_ok=True)
    if options.source:
        present(document.read(options.source), options)
        return 0
    stacks = [stack for each in parts(options).values() for stack in each.stacks]
    topology.require_programs(stacks, options.bin)
    path = os.path.join(options.folder, "report.json")
    if os.path.exists(path):
        os.remove(path)  # whatever is there afterwards is of this run
    status = enter()
    if os.path.exists(path):
        present(document.read(path), options)
    return status
