"""Planted changes of a benchmark: which are told, which are not, and what cannot be compared."""
import copy
import io
import json
import tempfile
import unittest
from pathlib import Path

import results

MACHINE = {"cpu": "A", "family": "25.1", "cores": 2, "flags": ["avx2"], "memory_gib": 23}


def run_of(date="2026-11-02T00:00:00Z", **ms):
    rows = [{"name": name, "ms": value} for name, value in ms.items()]
    return {"format": results.FORMAT, "date": date, "commit": "c" + date[8:10], "load": 0.5, "machine": dict(MACHINE), "rows": rows}


class Results(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def told(self, run, *earlier, ci=False):
        for i, one in enumerate(earlier):
            (self.folder / f"{i}.json").write_text(json.dumps(one), encoding="utf-8")
        out = io.StringIO()
        self.found = results.report(run, self.folder, out, ci)
        return out.getvalue()

    def test_a_slowdown_is_a_warning_with_both_numbers(self):
        text = self.told(run_of(diff=120.0, masks=40.0), run_of("2026-11-01T00:00:00Z", diff=100.0, masks=40.0))
        self.assertEqual(len(text.splitlines()), 1)
        for part in ("warning", "diff", "100.0 ms at c01", "120.0 ms now", "20% slower"):
            self.assertIn(part, text)

    def test_in_ci_it_is_an_annotation(self):
        text = self.told(run_of(diff=120.0), run_of("2026-11-01T00:00:00Z", diff=100.0), ci=True)
        self.assertTrue(text.startswith("::warning title=benchmark::diff: 100.0 ms"), text)

    def test_what_got_faster_is_told_too(self):
        self.assertIn("50% faster", self.told(run_of(diff=50.0), run_of("2026-11-01T00:00:00Z", diff=100.0)))

    def test_the_same_is_no_warning(self):
        text = self.told(run_of(diff=100.0), run_of("2026-11-01T00:00:00Z", diff=100.0))
        self.assertNotIn("warning", text)
        self.assertIn("no row changed", text)

    def test_both_limits_have_to_be_passed(self):
        before = run_of("2026-11-01T00:00:00Z", small=5.0, large=1000.0, edge=100.0)
        self.told(run_of(small=14.9, large=1099.0, edge=110.0), before)
        self.assertEqual(self.found, [])
        self.told(run_of(small=15.1, large=1101.0, edge=110.1), before)
        self.assertEqual([name for name, _, _ in self.found], ["small", "large", "edge"])

    def test_the_newest_earlier_run_counts(self):
        text = self.told(run_of("2026-11-03T00:00:00Z", diff=200.0), run_of("2026-11-02T00:00:00Z", diff=200.0),
                         run_of("2026-11-01T00:00:00Z", diff=100.0), run_of("2026-11-04T00:00:00Z", diff=100.0))
        self.assertIn("since c02", text)

    def test_another_machine_cannot_be_compared(self):
        other = run_of("2026-11-01T00:00:00Z", diff=1.0)
        other["machine"]["flags"] = ["avx2", "avx512f"]
        text = self.told(run_of(diff=100.0), other)
        self.assertEqual(self.found, [])
        self.assertIn("1 of other machines cannot be compared with", text)

    def test_rows_of_one_run_only_are_passed_over(self):
        before = run_of("2026-11-01T00:00:00Z", gone=1.0)
        now = run_of(new=900.0)
        now["rows"].append({"name": "gone", "ms": None})
        self.told(now, before)
        self.assertEqual(self.found, [])

    def test_a_file_of_another_format_is_named(self):
        wrong = copy.deepcopy(run_of("2026-11-01T00:00:00Z", diff=1.0))
        wrong["format"] = "other/1"
        with self.assertRaisesRegex(ValueError, "0.json: format: expected parscope-bench/1, found other/1"):
            self.told(run_of(diff=1.0), wrong)

    def test_the_stored_runs_can_be_read(self):
        stored = sorted((Path(__file__).parent / "results").glob("*.json"))
        for path in stored:
            run = results.read(path)
            self.assertEqual(set(run["machine"]), set(results.machine()), path)
            names = [row["name"] for row in run["rows"]]
            self.assertEqual(len(names), len(set(names)), path)


if __name__ == "__main__":
    unittest.main()
