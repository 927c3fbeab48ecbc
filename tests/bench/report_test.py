#!/usr/bin/env python3
"""The parts of bench/ that only compute: figures, targets, charts, the page, the estimate.

    report_test.py [CASE...]

The results are made here: a run of two repetitions whose figures one can reckon with in
one's head. Nothing is measured and no namespace is made. CMake runs each case as one
ctest test.
"""

import dataclasses
import json
import math
import os
import sys
import tempfile
import unittest
from xml.etree import ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))

import charts  # noqa: E402
import document  # noqa: E402
import figures  # noqa: E402
import page  # noqa: E402
import record  # noqa: E402
import targets  # noqa: E402

GB = 10**9


def result(benchmark, cell, stack, value, repetition=1, mtu=1500, unit="Gbit/s", **more):
    return {"benchmark": benchmark, "repetition": repetition, "mtu": mtu, "cell": cell,
            "stack": stack, "unit": unit, "value": value, **more}


def up(stack, *values, mtu=1500, cell="up 1"):
    """Bulk results, one for each repetition, each of a GB for as many CPU seconds as its rate."""
    return [result("throughput", cell, stack, value, repetition, mtu, bytes=GB, cpu_seconds=value)
            for repetition, value in enumerate(values, 1)]


RUN = (up("veth", 40, 44) + up("slirp4netns", 1, 3) + up("pasta", 2, 8) + up("penstock", 20, 24)
       + [result("idle", "memory 10000", "penstock", 2000.0, unit="B", resident_bytes=2**25),
          result("idle", "random 10000", "penstock", 30.0, unit="us", ratio=1.5),
          result("idle", "opened 10000", "slirp4netns", None, unit="1/s", failure="<gone> & lost")])


def run(results=None, complete=True):
    return {"date": "2026-01-02 03:04", "complete": complete, "seconds": 4000,
            "machine": {"cores": 2, "cpu": "A <fast> CPU", "kernel": "6", "load_before": 0.5,
                        "versions": {"passt": "1"}},
            "settings": {}, "results": RUN if results is None else results}


def row_of(what, against, results=None):
    found = [row for row in targets.evaluate(RUN if results is None else results)
             if row.target.what == what and row.target.against == against]
    assert len(found) == 1, found
    return found[0]


class Figures(unittest.TestCase):
    def test_a_spread_has_the_median_and_both_ends(self):
        self.assertEqual(figures.spread([3, 1, 2]), figures.Spread(2, 1, 3))

    def test_one_failed_repetition_is_no_spread(self):
        self.assertIsNone(figures.spread([3, None]))
        self.assertIsNone(figures.spread([]))

    def test_a_ratio_is_of_results_of_the_same_repetition(self):
        found = figures.ratio(up("penstock", 8, 9, 20), up("pasta", 2, 9, 4))
        self.assertEqual(found, figures.Spread(4, 1, 5))

    def test_a_ratio_to_what_failed_is_endless_and_one_of_what_failed_is_none(self):
        self.assertEqual(figures.ratio(up("penstock", 8), up("pasta", None)).median, math.inf)
        self.assertEqual(figures.ratio(up("penstock", 8), []).median, math.inf)
        self.assertIsNone(figures.ratio(up("penstock", 8, None), up("pasta", 2, 2)))

    def test_cpu_time_of_a_direction_is_over_all_its_cells(self):
        results = up("penstock", 1, 3) + up("penstock", 3, 3, cell="up 8") + up(
            "penstock", 9, 9, cell="down 1")
        self.assertEqual(figures.values(results, "up", figures.CPU_PER_GB), [2, 3])

    def test_cpu_time_of_a_thousand_connections(self):
        closes = result("throughput", "close 1", "penstock", 9.0, cpu_seconds=0.5, rounds=250)
        self.assertEqual(figures.of_result(closes, "cpu_per_thousand"), 2)
        del closes["cpu_seconds"]
        self.assertIsNone(figures.of_result(closes, "cpu_per_thousand"))


class Targets(unittest.TestCase):
    def test_the_best_run_of_the_peers_counts_for_throughput(self):
        row = row_of("throughput", targets.BEST_RUN)
        self.assertEqual((row.peer, row.value, row.lowest, row.highest),
                         ("pasta", 22 / 8, 20 / 8, 3))
        self.assertTrue(row.met)

    def test_a_ratio_below_what_is_wanted_is_missed(self):
        row = row_of("throughput", "veth")
        self.assertAlmostEqual(row.value, 22 / 42)
        self.assertFalse(row.met)

    def test_less_is_better_for_cpu_time(self):
        row = row_of("CPU time per GB", targets.BEST_PEER)
        self.assertEqual((row.peer, row.value), ("slirp4netns", 11))
        self.assertFalse(row.met)
        cheap = [{**each, "cpu_seconds": 0.4} if each["stack"] == "penstock" else each
                 for each in RUN]
        self.assertTrue(row_of("CPU time per GB", targets.BEST_PEER, cheap).met)

    def test_limits_need_no_peer(self):
        self.assertTrue(row_of("10,000 idle: memory of each", targets.LIMIT).met)
        self.assertFalse(row_of("10,000 idle: random round trip against ten", targets.LIMIT).met)

    def test_a_failed_round_of_ours_misses(self):
        row = row_of("throughput", "veth", up("veth", 40, 44) + up("penstock", 20, None))
        self.assertIsNone(row.value)
        self.assertFalse(row.met)
        self.assertIn("1 of 2", row.note)

    def test_peers_that_all_failed_are_beaten(self):
        gone = [{**each, "failure": "gone"} for each in up("slirp4netns", None)]
        row = row_of("throughput", "slirp4netns", gone + up("penstock", 1))
        self.assertTrue(row.met)
        json.dumps(targets.as_data(row), allow_nan=False)

    def test_who_leaves_connections_without_an_answer_is_no_measure(self):
        closes = [result("publish", "close 64", stack, value, unit="1/s", **more)
                  for stack, value, more in (("penstock", 300, {}), ("pasta", 100, {}),
                                             ("slirp4netns", 900, {"unanswered": 60}))]
        row = row_of("connect-request-close", targets.BEST_PEER, closes)
        self.assertEqual((row.peer, row.value), ("pasta", 3))

    def test_what_was_not_measured_has_no_row(self):
        self.assertEqual(targets.evaluate(up("penstock", 20)), [])
        self.assertEqual(targets.evaluate(up("slirp4netns", 20)), [])
        no_process = [{**each, "cpu_seconds": None} for each in up("pasta", 20)]
        self.assertNotIn("CPU time per GB", [row.target.what for row in targets.evaluate(
            no_process + up("penstock", 20))])

    def test_each_target_asks_for_one_bound(self):
        for target in targets.TARGETS:
            self.assertNotEqual(target.at_least is None, target.at_most is None, target)

    def test_the_worst_row_is_the_furthest(self):
        rows = [row for row in targets.evaluate(RUN) if row.target.against == "veth"]
        lower = dataclasses.replace(rows[0], value=0.1)
        self.assertIs(targets.worst([rows[0], lower]), lower)


class Charts(unittest.TestCase):
    GROUP = charts.Group("a <b>", {"penstock": figures.Spread(5, 4, 6), "pasta": None,
                                   "unheard of": figures.Spread(2, 2, 2)},
                         [charts.Note("×2 & more", "met")])

    def elements(self, chart, name):
        drawn = ElementTree.fromstring(charts.draw(chart))
        return drawn.iter(f"{{http://www.w3.org/2000/svg}}{name}")

    def test_a_chart_is_well_formed(self):
        texts = [each.text for each in self.elements(charts.Chart("t", "u", [self.GROUP]), "text")]
        for expected in ("a <b>", "×2 & more", "failed", "5.00"):
            self.assertIn(expected, texts)

    def test_a_bar_is_as_high_as_its_figure(self):
        heights = [float(each.get("height"))
                   for each in self.elements(charts.Chart("t", "u", [self.GROUP]), "rect")]
        self.assertAlmostEqual(heights[0], charts.HEIGHT * 5 / 6, places=1)
        self.assertAlmostEqual(heights[1], charts.HEIGHT * 2 / 6, places=1)

    def test_a_bar_far_above_all_others_is_cut(self):
        group = charts.Group("g", {"slirp4netns": figures.Spread(4000, 4000, 4000),
                                   "penstock": figures.Spread(40, 40, 40)})
        tall, low = (float(each.get("height"))
                     for each in self.elements(charts.Chart("t", "u", [group]), "rect"))
        self.assertEqual(tall, charts.HEIGHT)
        self.assertGreater(low, charts.HEIGHT / 3)

    def test_ticks_are_round_and_reach_the_top(self):
        for top in (0.03, 1, 7, 42, 999, 31_000):
            marks = charts.ticks(top)
            self.assertEqual(marks[0], 0)
            self.assertGreaterEqual(marks[-1], top * (1 - 1e-6))
            self.assertTrue(3 <= len(marks) <= 7, (top, marks))

    def test_an_empty_chart_can_be_drawn(self):
        charts.draw(charts.Chart("t", "u", []))


class Page(unittest.TestCase):
    def test_the_page_is_well_formed_and_names_the_machine(self):
        text = page.html(run())
        root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
        said = "".join(root.itertext())
        for expected in ("A <fast> CPU", "2026-01-02", "passt 1", "<gone> & lost", "×2.75",
                         "×0.52"):
            self.assertIn(expected, said)
        self.assertNotIn("Incomplete", said)

    def test_an_interrupted_run_says_so(self):
        self.assertIn("Incomplete", page.html(run(complete=False)))

    def test_a_run_without_results_still_makes_a_page(self):
        ElementTree.fromstring(page.html(run([], False)).removeprefix("<!DOCTYPE html>"))

    def test_markdown_is_a_table_with_the_ratios(self):
        lines = page.markdown(run()).splitlines()
        table = [line for line in lines if line.startswith("|")]
        self.assertEqual({line.count("|") for line in table}, {6})
        self.assertTrue(any("×2.75 ✓" in line for line in table), table)
        self.assertIn("A <fast> CPU", lines[-1])

    def test_medians_are_of_each_figure(self):
        found = {(each["cell"], each["figure"]): each["median"]
                 for each in document.medians(RUN) if each["stack"] == "penstock"}
        self.assertEqual(found[("up 1", "value")], 22)
        self.assertEqual(found[("up 1", figures.CPU_PER_GB)], 22)
        self.assertEqual(found[("random 10000", "ratio")], 1.5)
        self.assertNotIn(("random 10000", figures.CPU_PER_GB), found)

    def test_a_document_is_written_whole_and_read_again(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            data = run()
            document.write(path, {**data, **document.derived(data["results"])})
            again = document.read(path)
            self.assertEqual(page.html(again), page.html(data))
            self.assertEqual(os.listdir(folder), ["report.json"])


class Estimate(unittest.TestCase):
    def test_the_rest_follows_the_pace(self):
        now = 0.0
        kept = record.Record(1000, clock=lambda: now)
        self.assertEqual(kept.left(), 1000)
        now = 1000.0
        kept.step(500)  # took twice as long as planned
        self.assertAlmostEqual(kept.left(), 980, delta=10)
        kept.step(500)
        self.assertEqual(kept.left(), 0)

    def test_each_result_is_saved_at_once(self):
        saved = []
        kept = record.Record(2, save=lambda: saved.append(len(kept.results)))
        for value in (1, 2):
            kept.add("udp", 1, 1500, "up 10k", "penstock", "1/s", {"value": value})
        self.assertEqual(saved, [1, 2])

    def test_durations_are_read_at_a_glance(self):
        self.assertEqual([record.duration(each) for each in (0, 89, 150, 5400)],
                         ["0 s", "89 s", "2 min", "1 h 30 min"])


if __name__ == "__main__":
    unittest.main()
