"""The report as a page, and the short table for a README: pure functions of a run's JSON.

The page opens with the targets, one line each, and what was measured where; then come
charts, one section for each benchmark, and at the end every row of the targets. It is
one file without scripts, legible on light and dark ground.
"""

import dataclasses
from html import escape

import charts
import document
import figures
import targets
from charts import Chart, Group, Note
from record import duration
from topology import LEGENDS

MIB = 2**20

STYLE = """
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2430;--quiet:#5d6878;--line:#dde2ea;
--met:#15803d;--missed:#b91c1c;--tint:#f5f7fa}
@media(prefers-color-scheme:dark){:root{--ground:#12161d;--ink:#e4e9f1;--quiet:#9aa6b8;
--line:#2c3542;--met:#4ade80;--missed:#fb8a8a;--tint:#1a2029}}
body{background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif;
max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{margin:0 0 .3rem;font-size:1.6rem}h2{margin:2.4rem 0 .4rem;border-bottom:1px solid var(--line)}
h3{margin:0;font-size:1rem}p{margin:.4rem 0;max-width:80ch}
.quiet{color:var(--quiet)}.met{color:var(--met);fill:var(--met)}
.missed{color:var(--missed);fill:var(--missed)}
.banner{border:2px solid var(--missed);padding:.4rem .8rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:.92rem}
th,td{text-align:left;padding:.18rem .9rem .18rem 0;border-bottom:1px solid var(--line);
vertical-align:top}td.number{text-align:right;font-variant-numeric:tabular-nums}
.charts{display:flex;flex-wrap:wrap;gap:1.4rem 2rem}
figure{margin:0;background:var(--tint);padding:.7rem;border-radius:6px;max-width:100%;
overflow-x:auto}
figcaption{margin-bottom:.2rem}svg{display:block;max-width:100%;height:auto}
svg text{fill:var(--ink);font:11px system-ui,sans-serif}svg text.value{font-size:10px}
svg text.label{font-weight:600;font-size:12px}svg text.axis{fill:var(--quiet)}
svg text.note{fill:var(--quiet)}svg text.met{fill:var(--met)}svg text.missed{fill:var(--missed)}
.grid{stroke:var(--line);fill:none}.whisker{stroke:var(--ink);fill:none;stroke-width:1.2}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em}
.legend span.item{margin-right:1.4em;white-space:nowrap}
summary{cursor:pointer;margin:.6rem 0}
"""

TITLES = {
    "throughput": ("Out of the sandbox", "The guest connects to a server on the host."),
    "publish": ("Published ports", "A client on the host connects to a server in the guest."),
    "udp": ("UDP", "Datagrams of 1,400 bytes at MTU 1500, one system call each."),
    "idle": ("Idle connections", "Everything on one core. A random round trip is that of one byte"
             " on a connection that chance chooses among all."),
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """One group of a chart."""

    label: str
    mtu: int
    cell: str
    figure: str = "value"
    scale: float = 1.0


def bulk_cells(results):
    return figures.distinct([each for each in results if each["unit"] == "Gbit/s"], "cell")


def mark(met):
    return "✓" if met else "✗"


def notes(results, rows, benchmark, asked, less_is_better):
    """How penstock compares with the best peer and with veth, and whether that is a target."""
    found = []
    bulk = asked.figure == "value" and asked.cell in bulk_cells(results)
    peer = targets.BEST_RUN if bulk else targets.BEST_PEER
    for against, name in ((peer, "best peer"), ("veth", "veth"), ("floor", "floor")):
        matching = [row for row in rows if (row.benchmark, row.mtu, row.cell, row.target.figure,
                                            row.target.against)
                    == (benchmark, asked.mtu, asked.cell, asked.figure, against)]
        if matching:
            row = matching[0]
            state = "met" if row.met else "missed"
        else:
            bound = {"at_most": float("inf")} if less_is_better else {"at_least": 0.0}
            row = targets.judge(targets.Target("", {}, against, figure=asked.figure, **bound),
                                results, benchmark, asked.mtu, asked.cell)
            state = ""
        if row is not None and row.value is not None:
            sign = f" {mark(row.met)}" if state else ""
            found.append(Note(f"{targets.show(row.value)} {name}{sign}", state))
    return found


def chart(title, unit, asked, results, rows, benchmark, less_is_better=False):
    """None if nothing of what is asked for was measured."""
    groups = []
    for each in asked:
        here = figures.select(results, benchmark=benchmark, mtu=each.mtu)
        bars = {}
        for stack in figures.stacks(here):
            values = figures.values(figures.select(here, stack=stack), each.cell, each.figure)
            if any(value is not None for value in values):
                measured = figures.spread(values)
                bars[stack] = measured and figures.scaled(measured, each.scale)
            elif any(result["cell"] == each.cell and "failure" in result
                     for result in figures.select(here, stack=stack)):
                bars[stack] = None
        if bars:
            groups.append(Group(each.label, bars,
                                notes(results, rows, benchmark, each, less_is_better)))
    return Chart(title, unit, groups, less_is_better) if groups else None


def tcp_charts(benchmark, results, rows):
    own = figures.select(results, benchmark=benchmark)
    mtus = figures.distinct(own, "mtu")
    bulk = bulk_cells(own)
    directions = list(dict.fromkeys(cell.rpartition(" ")[0] for cell in bulk))

    def draw(title, unit, asked, less_is_better=False):
        return chart(title, unit, asked, results, rows, benchmark, less_is_better)

    for mtu in mtus:
        yield draw(f"Throughput at MTU {mtu:,}", "Gbit/s",
                   [Asked(cell, mtu, cell) for cell in bulk])
    yield draw("CPU time of the stack for a GB", "s",
               [Asked(f"{direction}, {mtu}", mtu, direction, figures.CPU_PER_GB)
                for mtu in mtus for direction in directions], True)
    yield draw("Round trip of one byte", "µs",
               [Asked(f"{label}, {mtu}", mtu, "round trips", figure) for mtu in mtus
                for label, figure in (("median", "median_us"), ("p99", "p99_us"))], True)
    closes = [(mtu, cell) for mtu in mtus for cell in ("close 1", "close 64")]
    yield draw("Connect, request, close", "per second",
               [Asked(f"{cell.split()[1]} at once, {mtu}", mtu, cell) for mtu, cell in closes])
    yield draw("CPU time of the stack for a thousand connections", "s",
               [Asked(f"{cell.split()[1]} at once, {mtu}", mtu, cell, "cpu_per_thousand")
                for mtu, cell in closes], True)
    yield draw("Resident memory of the stack", "MiB",
               [Asked(f"at rest, {mtu}", mtu, figures.REST) for mtu in mtus]
               + [Asked(f"{bulk[-1]}, {mtu}", mtu, bulk[-1], "resident_bytes", 1 / MIB)
                  for mtu in mtus if bulk], True)


def udp_charts(results, rows):
    cells = figures.distinct(figures.select(results, benchmark="udp"), "cell")
    yield chart("Delivered", "datagrams per second",
                [Asked(cell, 1500, cell) for cell in cells if cell != "round trips"],
                results, rows, "udp")
    yield chart("Round trip", "µs", [Asked("median", 1500, "round trips", "median_us"),
                                     Asked("p99", 1500, "round trips", "p99_us")],
                results, rows, "udp", True)
    yield chart("CPU time of the stack for a million datagrams", "s",
                [Asked(cell, 1500, cell, "cpu_per_million") for cell in cells
                 if cell != "round trips"], results, rows, "udp", True)


def idle_charts(results, rows):
    cells = figures.distinct(figures.select(results, benchmark="idle"), "cell")
    for kind, figure, title, unit, less in (
            ("random", "value", "Round trip on a random connection", "µs", True),
            ("random", "ratio", "The same against that with ten", "×", True),
            ("one", "value", "Round trip on one connection", "µs", True),
            ("opened", "value", "Opened", "connections per second", False),
            ("memory", "value", "Resident memory of each connection", "bytes", True)):
        yield chart(title, unit, [Asked(f"{int(cell.split()[1]):,}", 1500, cell, figure)
                                  for cell in cells if cell.startswith(f"{kind} ")],
                    results, rows, "idle", less)


def charts_of(benchmark, results, rows):
    drawn = {"udp": udp_charts, "idle": idle_charts}.get(benchmark)
    return [each for each in (drawn(results, rows) if drawn
                              else tcp_charts(benchmark, results, rows)) if each is not None]


def drawing(each):
    better = "less" if each.less_is_better else "more"
    return (f"<figure><figcaption><h3>{escape(each.title)}</h3>"
            f'<span class="quiet">{escape(each.unit)}; {better} is better</span></figcaption>'
            f"{charts.draw(each)}</figure>")


def section(benchmark, results, rows):
    title, about = TITLES[benchmark]
    drawn = "".join(drawing(each) for each in charts_of(benchmark, results, rows))
    return (f"<h2>{title}</h2><p>{about}</p>{problems(benchmark, results)}"
            f'<div class="charts">{drawn}</div>')


def problems(benchmark, results):
    """What could not be measured, and who left connections without an answer."""
    said = {}
    for result in figures.select(results, benchmark=benchmark):
        what = result.get("failure")
        if what is None and (result.get("failed") or result.get("unanswered")):
            what = "left connections without an answer: the rate is that of the others"
        if what is not None:
            said.setdefault((result["stack"], result["cell"], what), []).append(result)
    if not said:
        return ""
    lines = "".join(f"<li>{escape(stack)}, {escape(cell)}: {escape(what)} ({len(found)} times)</li>"
                    for (stack, cell, what), found in said.items())
    return (f"<details><summary>{len(said)} cells with failures</summary><ul>{lines}</ul>"
            "</details>")


def table(heads, lines):
    def cells(tag, fields):
        return "".join(f"<{tag}>{field}</{tag}>" for field in fields)
    return (f"<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>"
            + "".join(f"<tr>{cells('td', fields)}</tr>" for fields in lines) + "</tbody></table>")


def value_of(row):
    return row.note if row.value is None else targets.show(row.value, row.target.unit)


def spread_of(row):
    if row.lowest is None:
        return ""
    return (f"{targets.show(row.lowest, row.target.unit)} –"
            f" {targets.show(row.highest, row.target.unit)}")


def verdict(met, many=""):
    return f'<span class="{"met" if met else "missed"}">{mark(met)} {many}</span>'


def by_target(rows):
    """[(target, benchmark, mtu, its rows)], in their order."""
    grouped = {}
    for row in rows:
        grouped.setdefault((targets.TARGETS.index(row.target), row.benchmark, row.mtu),
                           []).append(row)
    return [(targets.TARGETS[index], benchmark, mtu, found)
            for (index, benchmark, mtu), found in grouped.items()]


def extent(rows):
    """The lowest and the highest of the cells' ratios."""
    if any(row.value is None for row in rows):
        return "failed"
    ordered = [targets.show(value, rows[0].target.unit)
               for value in sorted(row.value for row in rows)]
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} – {ordered[-1]}"


def glance(rows):
    """One line for each target, benchmark and MTU."""
    lines = []
    for target, benchmark, mtu, found in by_target(rows):
        met = sum(row.met for row in found)
        worst = targets.worst(found)
        lines.append((verdict(met == len(found), f"{met} of {len(found)}"), escape(target.what),
                      TITLES[benchmark][0], f"{mtu:,}", f"{target.wanted} {escape(target.against)}",
                      extent(found), "" if met == len(found) else
                      f"{escape(worst.cell)}: {escape(value_of(worst))}"))
    return table(("met", "target", "where", "MTU", "wanted", "measured", "furthest from it"), lines)


def every_row(rows):
    return table(("", "target", "where", "MTU", "cell", "measured", "lowest – highest", "wanted"),
                 [(verdict(row.met), escape(row.target.what), TITLES[row.benchmark][0],
                   f"{row.mtu:,}", escape(row.cell), escape(value_of(row)), spread_of(row),
                   escape(f"{row.target.wanted} {row.target.against}"
                          + (f" ({row.peer})" if row.peer not in ("", row.target.against)
                             else ""))) for row in rows])


def legend(results):
    return '<p class="legend">' + "".join(
        f'<span class="item"><span class="key {charts.stack_class(stack)}"></span>{escape(stack)}'
        f' <span class="quiet">{escape(LEGENDS.get(stack, ""))}</span></span> '
        for stack in figures.stacks(results)) + "</p>"


def facts(data):
    about = data["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    rounds = max((result["repetition"] for result in data["results"]), default=0)
    return (f'<p>{escape(data["date"])} · {escape(document.machine_line(about))}'
            f'{escape(" · " + packages if packages else "")} · {rounds}'
            f' repetition{"" if rounds == 1 else "s"} in {duration(data["seconds"])}</p>')


def html(data):
    """The page."""
    results = data["results"]
    rows = targets.evaluate(results)
    incomplete = ("" if data["complete"] else '<p class="banner missed">Incomplete: the run was'
                  " interrupted; this is what it had measured.</p>")
    sections = "".join(section(benchmark, results, rows) for benchmark in TITLES
                       if figures.select(results, benchmark=benchmark))
    met = sum(row.met for row in rows)
    return ('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
            f"<title>penstock: benchmarks</title><style>{STYLE}{charts.style(False)}"
            f"@media(prefers-color-scheme:dark){{{charts.style(True)}}}</style></head><body>"
            f"<h1>penstock beside its peers</h1>{facts(data)}{incomplete}{legend(results)}"
            '<p class="quiet">Bars are medians, whiskers the lowest and the highest repetition.'
            " Keep ratios, not figures: all stacks of a row were measured in turn on one machine,"
            " and machines differ. Below each group: penstock against the best of slirp4netns and"
            " pasta (in throughput by its best run), a cable between two kernels, and the floor: the"
            " two copies through the kernel that every stack makes.</p>"
            f"<h2>Targets: {met} of {len(rows)} met</h2>{glance(rows)}"
            f"<details><summary>all {len(rows)} of them</summary>{every_row(rows)}</details>"
            f"{sections}</body></html>\n")


def markdown(data):
    """The short table of ratios, to be pasted into a README."""
    rows = targets.evaluate(data["results"])
    lines = ["| penstock's | against | MTU 1500 | MTU 65520 | wanted |",
             "| --- | --- | --- | --- | --- |"]
    grouped = {}
    for row in rows:
        grouped.setdefault((row.target.what, row.target.against), []).append(row)
    for (what, against), found in grouped.items():
        by_mtu = [[row for row in found if row.mtu == mtu] for mtu in targets.BOTH_MTUS]
        measured = [f"{extent(each)} {mark(all(row.met for row in each))}" if each else ""
                    for each in by_mtu]
        wanted = ", ".join(dict.fromkeys(row.target.wanted for row in found))
        lines.append(f"| {what} | {'' if against == targets.LIMIT else against} |"
                     f" {' | '.join(measured)} | {wanted} |")
    about = data["machine"]
    rounds = max((result["repetition"] for result in data["results"]), default=0)
    lines.append(f"\n{about['cores']} cores of {about['cpu']}, kernel {about['kernel']},"
                 f" {data['date'].split()[0]}, {rounds} repetition{'' if rounds == 1 else 's'}."
                 " Each field has the lowest and the highest of its cells, out of the sandbox and"
                 " through published ports; each is a ratio of medians.")
    return "\n".join(lines)
