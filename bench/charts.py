"""Bars as SVG, to be put into a page whose style sheet has the classes of STYLE.

A chart has groups (one cell each), a group has one bar for each stack: the median, with
a whisker from the lowest to the highest repetition, and notes below its label. A bar
that is much longer than all others is cut, and says so by its number.
"""

import dataclasses
import math
from xml.sax.saxutils import escape

BAR, GAP, GROUP_GAP = 30, 2, 26
LEFT, TOP, HEIGHT = 52, 16, 190
LINE = 15  # of text
# A bar is cut if it is so many times the longest one of all other stacks, to so many times.
CUT_FROM, CUT_TO = 4, 1.5

# (light, dark); a stack that is not here has the colour of "other".
COLOURS = {
    "penstock": ("#1d4ed8", "#6ea0ff"), "penstock-r0": ("#0891b2", "#22d3ee"),
    "penstock-r1": ("#0f766e", "#2dd4bf"), "slirp4netns": ("#d97706", "#fbbf24"),
    "pasta": ("#a21caf", "#e879f9"), "pasta-splice": ("#d68fdc", "#8b4a92"),
    "veth": ("#8b93a1", "#9aa3b2"), "floor": ("#c3c8d0", "#5b6472"),
    "other": ("#57534e", "#a8a29e"),
}


def style(dark):
    """CSS of the bars, for one of the two colour schemes."""
    return "".join(f".stack-{name}{{fill:{colours[dark]};background:{colours[dark]}}}"
                   for name, colours in COLOURS.items())


def stack_class(stack):
    return f"stack-{stack if stack in COLOURS else 'other'}"


@dataclasses.dataclass
class Note:
    text: str
    state: str = ""  # "met" or "missed": the colour


@dataclasses.dataclass
class Group:
    label: str
    bars: dict  # stack -> Spread, or None where it failed
    notes: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Chart:
    title: str
    unit: str
    groups: list
    less_is_better: bool = False


def short(value):
    """A figure above a bar: four characters or so."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            scaled = value / (1e6 if unit == "M" else 1e3)
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def top_of(groups):
    """Where the axis ends: the highest whisker, unless one stack is far above all others."""
    highest = {}
    for group in groups:
        for stack, measured in group.bars.items():
            if measured is not None:
                highest[stack] = max(highest.get(stack, 0), measured.highest)
    ordered = sorted(highest.values(), reverse=True) or [1]
    second = ordered[1] if len(ordered) > 1 else 0
    return (ordered[0] if not second or ordered[0] <= CUT_FROM * second
            else CUT_TO * second) or 1


def ticks(top):
    """Three to six round numbers from 0 to the first one that is at least `top`."""
    step = 10 ** math.floor(math.log10(top / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 5)
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def text(x, y, what, classes="", anchor="middle"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{classes}">'
            f"{escape(what)}</text>")


def bar(x, stack, measured, scale):
    """`scale`: a figure to the height of its bar, no more than the chart's."""
    base = TOP + HEIGHT
    if measured is None:
        return text(x + BAR / 2, base - 4, "failed", "missed value")
    height = scale(measured.median)
    low, high = (base - scale(value) for value in (measured.lowest, measured.highest))
    middle = x + BAR / 2
    about = (f"{stack}: {measured.median:,.4g} ({measured.lowest:,.4g}-{measured.highest:,.4g})")
    return (f'<g><title>{escape(about)}</title><rect class="{stack_class(stack)}" x="{x:.1f}"'
            f' y="{base - height:.1f}" width="{BAR - GAP}" height="{height:.1f}"/>'
            f'<path class="whisker" d="M{middle:.1f} {low:.1f}V{high:.1f}M{middle - 4:.1f}'
            f' {low:.1f}h8M{middle - 4:.1f} {high:.1f}h8"/>'
            + text(middle, min(high, base - height) - 3, short(measured.median), "value")
            + "</g>")


def draw(chart):
    """The chart as an <svg> element."""
    marks = ticks(top_of(chart.groups))
    stacks = max((len(group.bars) for group in chart.groups), default=0)
    group_width = max(stacks * BAR, 96) + GROUP_GAP
    width = LEFT + len(chart.groups) * group_width
    lines = 1 + max((len(group.notes) for group in chart.groups), default=0)
    base = TOP + HEIGHT

    def scale(value):
        return min(value / marks[-1], 1) * HEIGHT

    parts = []
    for mark in marks:
        y = base - scale(mark)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width}"/>'
                     + text(LEFT - 6, y + 4, f"{mark:,.6g}", "axis", "end"))
    for index, group in enumerate(chart.groups):
        left = LEFT + index * group_width + GROUP_GAP / 2
        indent = (group_width - GROUP_GAP - len(group.bars) * BAR) / 2
        for place, (stack, measured) in enumerate(group.bars.items()):
            parts.append(bar(left + indent + place * BAR, stack, measured, scale))
        middle = left + (group_width - GROUP_GAP) / 2
        parts.append(text(middle, base + LINE, group.label, "label"))
        parts += [text(middle, base + LINE * (2 + line), note.text, f"note {note.state}")
                  for line, note in enumerate(group.notes)]
    height = base + LINE * lines + 8
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" role="img" aria-label="{escape(chart.title)}">'
            + "".join(parts) + "</svg>")
