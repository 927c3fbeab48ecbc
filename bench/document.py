"""What a run leaves as JSON: the machine, the settings, and every single result.

    {"date", "complete", "seconds", "machine": {...}, "settings": {BENCHMARK: {...}},
     "results": [{"benchmark", "repetition", "mtu", "cell", "stack", "unit", "value", ...}],
     "medians": [...], "targets": [...]}

The last two are made of the results and only written for others: a page is made again
from the results.
"""

import dataclasses
import datetime
import json
import os
import platform
import subprocess

import figures
import targets

PACKAGES = ("slirp4netns", "passt")  # the peers' versions are these packages'


def versions():
    found = {}
    for package in PACKAGES:
        try:
            said = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", package],
                                  capture_output=True, text=True)
        except FileNotFoundError:
            return {}  # no Debian
        if said.returncode == 0:
            found[package] = said.stdout.strip()
    return found


def machine():
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cores": os.cpu_count(), "cpu": model, "kernel": platform.release(),
            "load_before": os.getloadavg()[0], "versions": versions()}


def machine_line(about):
    return (f"{about['cores']} cores of {about['cpu']}, kernel {about['kernel']}, load before the"
            f" run {about['load_before']:.2f}")


def medians(results):
    """Of each figure in each cell."""
    return [{"benchmark": benchmark, "mtu": mtu, "cell": cell, "stack": stack, "figure": figure,
             **dataclasses.asdict(measured)}
            for figure in figures.NAMES
            for (benchmark, mtu, cell, stack), measured
            in figures.summarise(results, figure).items() if measured is not None]


def make(about, settings, record, complete):
    """`settings`: benchmark -> its options."""
    data = {"date": datetime.datetime.now().isoformat(" ", "minutes"), "complete": complete,
            "seconds": round(record.taken()), "machine": about,
            "settings": {name: {key: value for key, value in vars(options).items()
                                if key not in ("bin", "json", "command")}
                         for name, options in settings.items()},
            "results": record.results}
    if complete:
        data.update(derived(record.results))
    return data


def derived(results):
    return {"medians": medians(results),
            "targets": [targets.as_data(row) for row in targets.evaluate(results)]}


def write(path, data):
    """Whole or not at all: a run may end at any moment."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    os.replace(f"{path}.new", path)


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
