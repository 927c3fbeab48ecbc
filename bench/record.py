"""What a run has measured so far, and how long the rest will take."""

import time

PLAN_WEIGHT = 20.0  # seconds


def duration(seconds):
    seconds = max(0, round(seconds))
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Record:
    """Results as they come, each of which is saved at once.

    The estimate: what is planned is told in seconds beforehand, by whoever measures it,
    and what was done so far shows how much longer things really take.
    """

    def __init__(self, planned_seconds, save=lambda: None, clock=time.monotonic):
        self.results = []
        self.planned = planned_seconds
        self.done = 0.0
        self.save = save
        self.clock = clock
        self.begin = clock()

    def add(self, benchmark, repetition, mtu, cell, stack, unit, result):
        self.results.append({"benchmark": benchmark, "repetition": repetition, "mtu": mtu,
                             "cell": cell, "stack": stack, "unit": unit, **result})
        self.save()

    def step(self, planned_seconds):
        """A part of the plan is over."""
        self.done += planned_seconds

    def taken(self):
        return self.clock() - self.begin

    def left(self):
        """Seconds until the end of the plan."""
        rest = max(0.0, self.planned - self.done)
        # The plan's word counts until enough was done to know better.
        return rest * (self.taken() + PLAN_WEIGHT) / (self.done + PLAN_WEIGHT)

    def head(self):
        """What a line of progress begins with."""
        share = min(1.0, self.done / self.planned) if self.planned else 1.0
        return f"{share:4.0%}, {duration(self.left())} left"
