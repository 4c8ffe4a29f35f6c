"""How programs are read by benchmarks/compiled: counts derived by hand."""

import json

import pytest

from benchmarks.compiled import floor, hlo, layouts, matrix, report, thunks
from benchmarks.compiled.targets import TARGETS

# A round with a loop of steps, whose body has a fusion with a product, a loop
# over a model's time of 5 steps, and one over lanes; and a test's sums.
PROGRAM = """\
HloModule jit_run, is_scheduled=true

%product (p0: f32[10,784], p1: f32[784,200]) -> f32[10,200] {
  %p0 = f32[10,784]{1,0} parameter(0)
  %p1 = f32[784,200]{1,0} parameter(1)
  ROOT %d = f32[10,200]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%time (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %h = f32[8]{0} get-tuple-element(%t), index=1
  ROOT %n = f32[8]{0} negate(%h), metadata={op_name="jit(run)/while/body/a_step/while/body/neg"}
}

%step (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %x = f32[10,784]{1,0} get-tuple-element(%s), index=1
  %w = f32[784,200]{1,0} get-tuple-element(%s), index=2
  %f = f32[10,200]{1,0} fusion(%x, %w), kind=kOutput, calls=%product, metadata={op_name="jit(run)/while/body/a_step/dot"}
  %scan = (s32[], f32[8]{0}) while(%s), condition=%c, body=%time, metadata={op_name="jit(run)/while/body/a_step/while"}, backend_config={"known_trip_count":{"n":"5"}}
  %lanes = (s32[], f32[8]{0}) while(%s), condition=%c, body=%time, metadata={op_name="jit(run)/while/body/a_step/gather"}, backend_config={"known_trip_count":{"n":"3"}}
}

%sums (u: f32[]) -> f32[] {
  %u = f32[] parameter(0)
  ROOT %r = f32[] all-reduce(%u), to_apply=%add
}

%nothing (u: f32[]) -> f32[] {
  ROOT %u = f32[] parameter(0)
}

%round (r: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = (s32[], f32[8]{0}) parameter(0)
  %steps = (s32[], f32[8]{0}) while(%r), condition=%c, body=%step, metadata={op_name="jit(run)/while/body/while"}
  %m = (f32[8]{0}, s32[]) all-reduce-start(%r), to_apply=%add
  %e = (f32[8]{0}, s32[]) all-reduce-done(%m)
  %test = f32[] conditional(%r, %r, %r), branch_computations={%nothing, %sums}
}

ENTRY %main (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  ROOT %rounds = (s32[], f32[8]{0}) while(%a), condition=%c, body=%round, metadata={op_name="jit(run)/while"}
}
"""  # noqa: E501

LAUNCHES = """\
000: kCommandBuffer [source | sink]
    001: kCopy [source] kCopy
    002: kWhile [prev=001]
condition:
        003: kCustomKernel [source | sink] compare grid: [1, 1, 1]
      body:
        004: kCustomKernel [source] fusion grid: [1, 1, 1]
        005: kConditional [prev=004]
          false_branch:
            006: kCustomKernel [source] test grid: [1, 1, 1]
            007: kWhile [prev=006]
condition:
                008: kCustomKernel [source | sink] compare grid: [1, 1, 1]
              body:
                009: kCustomKernel [source] test grid: [1, 1, 1]
        010: kCustomKernel [source] fusion grid: [1, 1, 1]
011: kWhile [prev=000]
condition:
    012: kCustomKernel [source | sink] compare grid: [1, 1, 1]
  body:
    000: kCommandBuffer [source | sink]
        013: kCustomKernel [source] fusion grid: [1, 1, 1]
"""


def test_loops_of_steps_are_those_that_hold_what_is_marked():
  program = hlo.parse(PROGRAM)
  assert [loop.body for loop in hlo.local_steps(program, 'a_step')] == ['step']


def test_an_evaluation_s_collective_is_told_apart():
  assert hlo.collectives(hlo.parse(PROGRAM)) == {
      'all-reduce': 1, 'evaluation': 1}


def test_a_step_costs_its_kernels_bytes_and_products():
  """One product, and eight steps of time of a kernel and a condition."""
  target = TARGETS['gpu']._replace(bandwidth=1e9, flops=1e9, launch=1e-6)
  cost = floor.of_body(hlo.parse(PROGRAM), 'step', target)
  assert cost.kernels == 1 + 2 * (5 + 3)
  product = 4 * (10 * 784 + 784 * 200 + 10 * 200)
  assert cost.bytes == product + 8 * 2 * 4 * 8
  assert cost.flops == 2 * 10 * 784 * 200
  # 3.1 ms of products; a negation is a launch.
  assert cost.seconds == pytest.approx(cost.flops / 1e9 + 16e-6)


def test_a_batch_of_products_as_a_convolution_counts_no_holes():
  lines = ['%a = f32[10,16,784]{2,1,0} parameter(0)',
           '%b = f32[10,784,200]{2,1,0} parameter(1)',
           'ROOT %c = f32[10,16,200]{2,1,0} convolution(%a, %b), '
           'window={size=10 stride=9 lhs_dilate=10}, dim_labels=0bf_0io->0bf']
  program = hlo.parse('\n'.join(
      ['ENTRY %main (a: f32[1]) -> f32[1] {', *('  ' + x for x in lines), '}']))
  cost = floor.of_body(program, 'main', TARGETS['tpu'])
  assert cost.flops == 2 * 10 * 16 * 784 * 200


def test_a_slice_of_a_large_array_is_what_is_read():
  program = hlo.parse("""\
%part (p: f32[1000,8], i: s32[]) -> f32[1,8] {
  %p = f32[1000,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %d = f32[1,8]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={1,8}
}

ENTRY %main (a: f32[1000,8], i: s32[]) -> f32[1,8] {
  %a = f32[1000,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %f = f32[1,8]{1,0} fusion(%a, %i), kind=kLoop, calls=%part
}
""")
  cost = floor.of_body(program, 'main', TARGETS['gpu'])
  # A row read and written; the index goes into the slice as well.
  assert cost.bytes == 32 + 32 + 4


@pytest.mark.parametrize('text, numbers, padded', [
    ('f32[10,200]{1,0}', 8000, 8000),
    ('f32[10,200]{1,0:T(8,128)}', 8000, 4 * 16 * 256),
    ('f32[10,200]{0,1:T(8,128)}', 8000, 4 * 128 * 200),
    ('(pred[3]{0}, bf16[5]{0:T(256)(128)(2,1)})', 13, 3 + 512),
    ('s32[]{:T(128)}', 4, 4),
])
def test_padding_to_tiles(text, numbers, padded):
  arrays = layouts.arrays(text)
  assert sum(array.bytes for array in arrays) == numbers
  assert sum(array.padded for array in arrays) == padded
  assert layouts.num_bytes(text) == padded


def test_what_lies_in_fast_memory_is_not_moved():
  assert layouts.num_bytes('(f32[8]{0:T(128)S(1)}, f32[128]{0:T(128)})') == 512


def test_graphs_and_loops_that_the_host_drives():
  first, inner, test, second = list(thunks.walk(thunks.parse(LAUNCHES)))[:4]
  assert (first.launches, first.graphs) == (1, 1)
  assert inner.in_graph and inner.launches == 2 and not inner.conditional
  assert test.in_graph and test.conditional
  assert not second.in_graph and (second.graphs, second.launches) == (1, 1)


def test_the_table_has_each_case_once():
  cases = matrix.cases()
  assert len(set(cases)) == len(cases)
  assert len({case.name for case in cases}) == len(cases)


def test_the_table_shows_before_and_after():
  case = matrix.Case('gpu', 'mnist_2nn')
  facts = {'lanes': 10, 'phases': 1, 'bytes': 2.5e6, 'floor_seconds': 5e-5,
           'temporary_bytes': 3e7, 'collectives': {'all-reduce': 1},
           'graphs': 1, 'host_loops': 0}
  lines = [{'case': case._asdict(), 'revision': revision, 'kernels': kernels,
            **facts}
           for revision, kernels in ((report.BEFORE, 23), ('abc', 18))]
  lines = json.loads(json.dumps(lines))
  row, = [line for line in report.table(lines).splitlines()
          if line.startswith('| mnist 2nn')]
  assert '| 23 → 18 |' in row
  assert '| 1 |' in row and '1 → 1' not in row
  for line, text in zip(lines, ('before only', 'after only'), strict=True):
    table = report.table([line])
    assert f'({text}) | 10 |' in table
    assert '→' not in table and f'| {line["kernels"]} |' in table
  newer = lines[1] | {'revision': 'def', 'kernels': 17, 'date': '2026-12-01'}
  # By date, and of a day the last line.
  for more in ([newer, lines[1]], [lines[1], newer | {'date': ''}]):
    assert '| 23 → 17 |' in report.table([lines[0], *more])
    assert 'After: def' in report.revisions([lines[0], *more])


def test_revisions_are_named_with_their_cases():
  lines = [{'case': matrix.Case('gpu', name)._asdict(), 'revision': revision}
           for name, revision in (
               ('mnist_2nn', report.BEFORE), ('mnist_2nn', 'abc'),
               ('pfl_cnn', 'abc'), ('mnist_cnn', 'def'))]
  assert report.revisions(lines) == (
      f'Before: revision {report.BEFORE}. After: abc, but def for mnist cnn, '
      '10, 1 on H100')


def test_the_page_shows_the_committed_results():
  page = report.PAGE.read_text()
  assert page.count('<!-- compiled -->') == 1
  assert report.page() == page
