"""Crossings when evaluations are further apart, and their table."""

import json

from benchmarks.paper import causes, report


def test_fewer_looks_find_a_peak_later_or_never():
  curve = [0.9, 0.98, 0.95, 0.96, 0.96, 0.99]
  # 0.97 lies seven eighths of the way from round 1 to 2 (0.9 to 0.98).
  assert abs(causes.crossing(curve, 1) - 1.875) < 1e-9
  # Rounds 2, 4, 6: the first look has it.
  assert causes.crossing(curve, 2) == 2
  # Rounds 3 and 6: half of the way from 0.95 to 0.99.
  assert abs(causes.crossing(curve, 3) - 4.5) < 1e-9
  assert causes.crossing(curve, 4) is None
  assert causes.crossing(curve[:2], 4) is None


def test_both_cells_have_their_table():
  way = causes.WAYS[0]
  iid = causes.line(way, {1: {'0.1': [50, 40, None], '0.2': [30, None, None]}})
  apart = causes.line(
      way._replace(clients='non-IID', limit=1000, every=(1, 50)),
      {1: {'0.1': [300, 310, 305], '0.2': [290, 280, 300]},
       50: {'0.1': [400, 420, 410], '0.2': [None, None, 300]}})
  lines = [json.loads(json.dumps(line)) for line in (iid, apart)]
  page = report.page({}, (), '', lines)
  name = way.name
  assert f'| {name} | 50 at 0.1 | 50 | > 160 |' in page
  assert ('| way | every round | every 50 |\n|---|--:|--:|\n'
          f'| {name} | 290 (0.2) | 410 (0.1) |') in page
