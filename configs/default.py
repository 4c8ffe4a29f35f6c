"""Every field of an experiment, once. Other configs change some of these.

Command: python run.py --config=configs/default.py
FedAvg on MNIST, IID; the same as `mnist_iid.py`, field by field.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
  """The default experiment."""
  config = ConfigDict()

  # Data.
  # mnist, fashion_mnist, digits, cifar10, mnist_by_writer, shakespeare or
  # messages
  config.dataset = 'mnist'
  config.data_dir = ''  # a folder with the set's original files; '' = none
  config.num_clients = 100  # N, clients in the federation; 0 with natural
  # iid, shards, dirichlet, quantity, or natural: as the data set comes
  config.partition = 'iid'
  config.shards_per_client = 2  # shards: k; there are k * num_clients shards
  config.dirichlet_alpha = 0.5  # dirichlet: concentration; smaller is more skew
  config.quantity_sigma = 1.0  # quantity: sigma of the log-normal sizes
  config.min_client_size = 1  # dirichlet, quantity: fewest examples a client
  config.client_test_fraction = 0.0  # of a client's own data, held out for it

  # Model.
  # or mnist_cnn, cifar_cnn, shakespeare_lstm, word_lstm, logistic_regression,
  # course_mlp
  config.model = 'mnist_2nn'
  config.pixels = 'zero_to_one'  # or centered: -0.5 to 0.5
  config.loss = 'cross_entropy'  # or nll_of_softmax

  # Algorithm.
  # A name in docs/algorithms.md, such as fedavg, fedsgd, scaffold or ditto.
  config.algorithm = 'fedavg'
  config.weighting = 'examples'  # of clients in the mean: examples or uniform
  config.client_fraction = 0.1  # C; 0 is one client a round
  config.clients_per_round = 0  # M, instead of client_fraction; 0 = unset
  # E, passes over the local data a round; may be a fraction.
  config.local_epochs = FieldReference(1, field_type=object)
  config.local_steps = 0  # steps a round, instead of local_epochs; 0 = unset
  config.stragglers = 0.0  # share of clients that do a random part of it only
  config.proximal = 0.0  # mu of FedProx, for most algorithms
  config.batch_size = 10  # B, examples a local step
  config.full_batch = False  # True is B = infinity; batch_size is not used
  config.micro_batch_size = 256  # of a full batch, examples at once; for memory
  config.steps_per_round = 0  # centralized_sgd: steps a round; 0 = an epoch
  config.client_optimizer = 'sgd'  # any optimizer of optax, by name
  config.client_lr = 0.1  # learning rate of the local steps
  config.client_lr_decay = 1.0  # its factor a round
  config.client_momentum = 0.0  # for optimizers that have one
  config.client_weight_decay = 0.0  # added to gradients: decay * weights
  config.client_clip_norm = 0.0  # gradients are clipped to it; 0 = not
  # any optimizer of optax, by name, or fedavgm, fedadagrad, fedyogi, fedadam
  config.server_optimizer = 'sgd'
  config.server_lr = 1.0  # 1 with sgd: the clients' average is the new model
  config.server_lr_decay = 1.0  # its factor a round
  config.server_momentum = 0.0  # for optimizers that have one
  config.server_tau = 1e-3  # adaptivity of fedadagrad, fedyogi, fedadam
  config.server_beta1 = 0.9  # of fedyogi, fedadam: decay of the mean update
  config.server_beta2 = 0.99  # likewise, of its square

  # Of single algorithms.
  config.control_option = 2  # scaffold: 1 or 2
  config.regularization = 0.1  # feddyn: alpha; ditto: lambda
  config.moreau = 15.0  # pfedme: lambda
  config.mixing = 0.5  # apfl: alpha, the share of a client's own model
  config.fairness = 1.0  # q_fedavg: q
  config.clusters = 2  # ifca: K
  config.personal_params = 'dense_2'  # fedper, fedrep: regex of their paths
  config.head_epochs = 10.0  # fedrep: epochs of the head before the body
  config.personal_lr = 0.05  # per_fedavg, pfedme, fine-tuning: a client's rate
  config.finetune_epochs = 0.0  # before a client is evaluated; 0 = none

  # The run.
  config.rounds = 100  # how many rounds in all
  config.seed = 0  # of weights, partition, cohorts, orders, dropout
  config.eval_every = 1  # rounds between two evaluations
  config.eval_batch_size = 1000  # examples at once
  config.test_examples = 0  # evaluated on these many drawn ones; 0 = all
  config.targets = (0.97,)  # test accuracies; rounds to each are reported
  config.on_divergence = 'stop'  # at a NaN or infinity: stop or continue
  # Devices that share a round's clients (a CPU has one for each core), and the
  # clients computed side by side on each. Numbers; 'auto' is measured at the
  # start.
  config.devices = FieldReference('auto', field_type=object)
  config.lanes = FieldReference('auto', field_type=object)
  config.examples = 'auto'  # or owned: each device holds a part of the clients
  config.client_state = 'auto'  # or device; stored: on disk, the cohorts' moved
  config.rounds_per_dispatch = 0  # in one call of the device; 0 = about 1 s
  config.checkpoint_seconds = 30.0  # seconds between two checkpoints
  config.keep_checkpoints = 3  # how many are kept
  config.tensorboard = False  # also write TensorBoard events
  return config
