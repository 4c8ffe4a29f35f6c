"""The client side of flower.py; a module, so that Ray's actors import it."""

import functools

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.peers import link, torch_models

app = ClientApp()


@functools.cache
def _prepared(path: str):
  """What an actor keeps: the task, the examples, the model, its optimizer."""
  torch.set_num_threads(1)
  job = link.read_job(path)
  torch_models.set_precision(job.task.precision)
  model = torch_models.build(job.task.model)
  optimizer = torch.optim.SGD(
      model.parameters(), lr=job.task.rate, fused=True)
  return job.task, *torch_models.examples(job), model, optimizer


@app.train()
def train(message: Message, context: Context) -> Message:
  """Local SGD from the parameters in the message."""
  config = message.content['config']
  task, x, y, model, optimizer = _prepared(config['job'])
  client = config['cohort'][context.node_config['partition-id']]
  model.load_state_dict(message.content['arrays'].to_torch_state_dict())
  torch_models.train_client(
      model, optimizer, x[client], y[client], epochs=task.epochs,
      batch_size=task.batch_size)
  return Message(RecordDict({
      'arrays': ArrayRecord(model.state_dict()),
      'metrics': MetricRecord({'num-examples': x.shape[1]}),
  }), reply_to=message)
