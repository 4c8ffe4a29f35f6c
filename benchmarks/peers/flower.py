"""Flower: `FedAvg` of the message API on its simulation engine (Ray).

One CPU core a client (and its share of a GPU), PyTorch in the clients, as many
actors as cores; actors keep their data and model from round to round. The
nodes are the places of the cohort: node i plays the i-th client of each.

Timed: `Strategy.start` for a turn's rounds, without evaluations: sending the
parameters, local SGD as in torch_loop.py on one thread, sending them back, the
weighted average, and the waiting that is part of the engine (it looks for
messages every 0.1 s; for replies, where it can be set, here every 0.005 s).
Not timed: starting Ray, loading the data.
"""

import time

import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers import flower_client, torch_models
from benchmarks.peers.link import Link


class OnCohorts(FedAvg):
  """FedAvg that tells the nodes which clients they are."""

  cohorts = ()

  def configure_train(self, server_round, arrays, config, grid):
    config['cohort'] = [int(c) for c in self.cohorts[server_round - 1]]
    return super().configure_train(server_round, arrays, config, grid)


def serve(link: Link, grid) -> None:
  """The server: runs rounds while they are asked for."""
  grid.pull_interval = 0.005
  model = torch_models.build(link.task.model)
  arrays = ArrayRecord(model.state_dict())
  strategy = OnCohorts(
      fraction_evaluate=0.0, min_train_nodes=link.task.clients,
      min_available_nodes=link.task.clients)
  link.ready(torch_models.device_name(), 'flwr', 'ray', 'torch')

  def train(cohorts):
    nonlocal arrays
    strategy.cohorts = cohorts
    begun = time.perf_counter()
    arrays = strategy.start(
        grid, arrays, num_rounds=len(cohorts),
        train_config=ConfigRecord({'job': link.job.path})).arrays
    return time.perf_counter() - begun

  def predict(x):
    model.load_state_dict(arrays.to_torch_state_dict())
    return torch_models.predictor(model)(x)

  link.serve(train, predict)


def main() -> None:
  link = Link()
  server = ServerApp()
  server.main()(lambda grid, context: serve(link, grid))
  run_simulation(
      server, flower_client.app, num_supernodes=link.task.clients,
      backend_config={
          'init_args': {'num_cpus': link.job.cores},
          'client_resources': {
              'num_cpus': 1,
              'num_gpus': torch.cuda.is_available() / link.job.cores,
          },
      })


if __name__ == '__main__':
  main()
