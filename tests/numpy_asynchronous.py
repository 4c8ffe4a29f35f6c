"""An asynchronous server in plain Python: an event after the other."""

import numpy as np


def run(
    num_steps, *, seconds, choose, wanted, concurrency, max_lag, model,
    train=lambda client, model: None, step=lambda model, reports: model,
    lost=lambda number, client: np.inf,
):
  """Runs server steps.

  Args:
    num_steps: how many.
    seconds: client -> how long it takes from the download to its report.
    choose: (number of the draw, idle clients, how many) -> clients.
    wanted: K.
    concurrency: clients at work.
    max_lag: of a report that counts.
    model: the first one.
    train: (client, model) -> what it reports.
    step: (model, [(report, lag)]) -> the next model.
    lost: (number of the training, client) -> seconds after which it is lost.

  Returns:
    A dict for each step.
  """
  events, version, now = [], 0, 0.0
  draws = begun = 0
  steps = []
  for _ in range(num_steps):
    reports, told = [], {'lost': 0, 'discarded': 0, 'started': 0}
    while len(reports) < wanted:
      if not any(event['end'] == now for event in events):
        free = concurrency - len(events)
        busy = {event['client'] for event in events}
        idle = np.array([k for k in range(len(seconds)) if k not in busy])
        if free:
          for client in choose(draws, idle, min(free, len(idle))):
            whole, stop = seconds[client], lost(begun, client)
            events.append({
                'end': now + min(whole, stop), 'number': begun,
                'client': client, 'version': version,
                'reports': whole <= stop, 'report': train(client, model)})
            begun += 1
            told['started'] += 1
          draws += 1
      assert len({event['client'] for event in events}) == len(events) <= (
          concurrency)
      event = min(events, key=lambda e: (e['end'], e['number']))
      events.remove(event)
      now = event['end']
      lag = version - event['version']
      if not event['reports']:
        told['lost'] += 1
      elif lag > max_lag:
        told['discarded'] += 1
      else:
        reports.append((event['report'], lag, event['client']))
    model = step(model, [(report, lag) for report, lag, _ in reports])
    version += 1
    steps.append(told | {
        'cohort': [client for _, _, client in reports],
        'lag': [lag for _, lag, _ in reports], 'end': now, 'model': model})
  return steps
