"""What the results of a run say: figures of each cell, their spread, and ratios.

A result is what one measurement gave, a dictionary: benchmark, repetition, mtu, cell,
stack, unit, value, and what else there was (bytes, cpu_seconds, median_us...). Where it
could not be measured, value is None and failure says why. Everything here is a pure
function of a list of results, so that a page can be made again from a file.
"""

import dataclasses
import math
import statistics

GB = 1e9
THOUSAND = 1e3
CPU_PER_GB = "cpu_per_gb"  # of a direction: over all its cells
# What a result may have to show.
NAMES = ("value", "median_us", "p99_us", CPU_PER_GB, "cpu_per_thousand", "cpu_per_million",
         "loss", "resident_bytes", "few_us", "ratio")
REST = "resident at rest"  # a cell: what a stack holds before any connection


@dataclasses.dataclass(frozen=True)
class Spread:
    """Of one figure over the repetitions."""

    median: float
    lowest: float
    highest: float


def select(results, **wanted):
    return [result for result in results
            if all(result.get(key) == value for key, value in wanted.items())]


def distinct(results, key):
    """The values of a key, in the order in which they come."""
    return list(dict.fromkeys(result[key] for result in results))


def stacks(results):
    """In the order in which they are measured."""
    return distinct([result for result in results if result["cell"] != REST], "stack")


def of_result(result, figure):
    """A figure of one result; None if it has none."""
    if result["value"] is None:
        return None
    if figure == "cpu_per_thousand":
        used, rounds = result.get("cpu_seconds"), result.get("rounds")
        return used / rounds * THOUSAND if used is not None and rounds else None
    if figure == CPU_PER_GB:
        return cpu_per_gb([result])
    return result.get(figure)


def cpu_per_gb(results):
    """Of bulk cells together: long runs say more than medians."""
    used = [result for result in results if result.get("cpu_seconds") is not None]
    moved = sum(result.get("bytes", 0) for result in used)
    return sum(result["cpu_seconds"] for result in used) / moved * GB if moved else None


def values(results, cell, figure="value"):
    """One for each repetition; None where it failed. `results` are of one stack.

    The CPU time of a GB is asked of a direction, such as "up", and not of a cell.
    """
    if figure == CPU_PER_GB:
        cells = [result for result in results
                 if result["cell"].rpartition(" ")[0] == cell and result["unit"] == "Gbit/s"]
        return [cpu_per_gb(select(cells, repetition=repetition))
                for repetition in distinct(cells, "repetition")]
    return [of_result(result, figure) for result in select(results, cell=cell)]


def spread(measured):
    """None if there is nothing, or a repetition failed."""
    if not measured or None in measured:
        return None
    return Spread(statistics.median(measured), min(measured), max(measured))


def scaled(measured, factor):
    return Spread(measured.median * factor, measured.lowest * factor, measured.highest * factor)


def summarise(results, figure="value"):
    """(benchmark, mtu, cell, stack) -> Spread or None; a key for all that was tried."""
    gathered = {}
    for result in results:
        key = (result["benchmark"], result["mtu"], result["cell"], result["stack"])
        gathered.setdefault(key, []).append(of_result(result, figure))
    return {key: spread(measured) for key, measured in gathered.items()}


def ratio(over, under):
    """The spread of results' ratios to those of the same repetition. None if one of the upper
    failed; endless where one of the lower did."""
    below = {result["repetition"]: result["value"] for result in under}

    def of(result):
        if result["value"] is None:
            return None
        other = below.get(result["repetition"])
        return result["value"] / other if other else math.inf

    return spread([of(result) for result in over])


def number(value):
    """As a table shows it: about three digits."""
    if value is None:
        return "failed"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
