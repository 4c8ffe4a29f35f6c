"""FedAvg over phones that are slow, lost or out of time, in simulated hours.

Command: python run.py --config=configs/mnist_deadline.py
As mnist_noniid.py, on phones of which 70% are on Wi-Fi. Of 13 that are chosen
the first 10 reports count, a phone that would miss the deadline of 20 s does as
many steps as fit, and one in ten is lost in a round. Without
`--config.reporting` a round waits for the slowest:

  python run.py --config=configs/mnist_deadline.py --config.reporting=''
"""

from configs import mnist_noniid


def get_config():
  """The task of mnist_noniid.py in time."""
  config = mnist_noniid.get_config()
  config.systems = 'phones(wifi=0.7, failures=failures(training=0.1))'
  config.reporting = (
      "window(20, over_selection=1.3, min_reports=0.5, late='partial')")
  return config
