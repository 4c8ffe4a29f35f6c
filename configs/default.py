"""Every field of an experiment, once. Other configs change some of these.

Command: python run.py --config=configs/default.py
FedAvg on MNIST, IID; the same as `mnist_iid.py`, field by field.

A field whose comment begins with "spec" names a thing, or calls its builder:
'ditto(lam=0.1)', 'clip_by_global_norm(1.0) | sgd(momentum=0.9)', or with the
path of a function of yours, 'my_package.my_file.feddelay(beta=0.5)'; a file
beside the config will do. docs/specs.md says what each may name. A field that
the chosen builder has no use for must keep the value that it has here.
"""

from ml_collections import FieldReference

from fedjax_sim.experiment.config import Config


def get_config() -> Config:
  """The default experiment."""
  config = Config()

  # Data.
  # spec: mnist, fashion_mnist, digits, cifar10, mnist_by_writer, shakespeare or
  # messages
  config.dataset = 'mnist'
  config.data_dir = ''  # a folder with the set's original files; '' = none
  config.num_clients = 100  # N, clients in the federation; 0 with natural
  # spec: iid, shards(2), dirichlet(0.5, min_size=1), quantity(sigma=1.0), or
  # natural: as the data set comes. iid(seed=7) does not follow the seed below.
  config.partition = 'iid'
  config.client_test_fraction = 0.0  # of a client's own data, held out for it

  # Model.
  # spec: or mnist_cnn, cifar_cnn, shakespeare_lstm, word_lstm,
  # logistic_regression, course_mlp; mnist_2nn(preprocess=centered) has pixels
  # from -0.5 to 0.5
  config.model = 'mnist_2nn'
  config.loss = ''  # spec: mse, huber(delta=2.0); '' = the model's own
  # spec: accuracy | auc | top_k(k=3); '' = those that fit the loss
  config.metrics = ''

  # Algorithm.
  # spec: a name in docs/algorithms.md, such as fedavg, scaffold, ditto(lam=0.1)
  config.algorithm = 'fedavg'
  config.weighting = 'examples'  # of clients in the mean: examples or uniform
  config.sampler = 'uniform'  # spec: who takes part in a round
  config.client_fraction = 0.1  # C; 0 is one client a round
  config.clients_per_round = 0  # M, instead of client_fraction; 0 = unset
  # E, passes over the local data a round; may be a fraction.
  config.local_epochs = FieldReference(1, field_type=object)
  config.local_steps = 0  # steps a round, instead of local_epochs; 0 = unset
  config.batch_size = 10  # B, examples a local step
  config.full_batch = False  # True is B = infinity; batch_size is not used
  config.micro_batch_size = 256  # of a full batch, examples at once; for memory
  # spec: what of the model clients train and send: low_rank(4),
  # random_mask(0.1), federated_dropout(0.75); '' = all of it
  config.restrict = ''
  # spec: any optimizer of optax, without its learning rate: 'adam(b1=0.8)'
  config.client_optimizer = 'sgd'
  config.client_lr = 0.1  # learning rate of the local steps
  config.client_lr_decay = 1.0  # its factor a round
  # spec: or fedavgm(momentum=0.9), fedadagrad, fedyogi, fedadam(tau=1e-3)
  config.server_optimizer = 'sgd'
  config.server_lr = 1.0  # 1 with sgd: the clients' average is the new model
  config.server_lr_decay = 1.0  # its factor a round

  # Messages.
  config.uplink = ''  # spec: changes to what clients send, clip(1.0); '' = none
  config.downlink = ''  # spec: changes to what clients receive
  config.reduce = ''  # spec: how messages become one; '' = the algorithm's mean
  config.aggregate = ''  # spec: both in one, instead of uplink and reduce

  # Time.
  # spec: whose devices: lognormal(speed_ratio=10), phones, table("my.csv"); ''
  # takes no time. With reporting, when a round ends: docs/systems.md
  config.systems = ''
  # spec: window(60, over_selection=1.3), asynchronous(concurrency=100); '' =
  # with all
  config.reporting = ''

  # The run.
  config.rounds = 100  # how many rounds in all
  config.seed = 0  # of weights, partition, cohorts, orders, dropout
  config.eval_every = 1  # rounds between two evaluations
  config.eval_batch_size = 1000  # examples at once
  config.test_examples = 0  # evaluated on these many drawn ones; 0 = all
  config.client_eval_every = 0  # rounds between tables of clients; 0 = none
  config.best_metric = ''  # its best model is kept: test/accuracy; '' = none
  config.best_mode = ''  # max or min; '' = as the model says of its metric
  config.record_cohort = False  # the ids of a round's clients in its record
  config.targets = (0.97,)  # test accuracies; rounds to each are reported
  config.on_divergence = 'stop'  # at a NaN or infinity: stop or continue
  # Devices that share a round's clients (a CPU has one for each core), and the
  # clients computed side by side on each. Numbers; 'auto' is a good default in
  # short jobs and on a GPU, and measured in long ones on a CPU; lanes may be
  # 'measure': docs/speed.md.
  config.devices = FieldReference('auto', field_type=object)
  config.lanes = FieldReference('auto', field_type=object)
  config.examples = 'auto'  # or owned: each device holds a part of the clients
  # of products: highest, tensorfloat32, bfloat16; 'auto' as the device does
  config.precision = 'auto'
  config.client_state = 'auto'  # or device; stored: on disk, the cohorts' moved
  config.rounds_per_dispatch = 0  # in one call of the device; 0 = about 1 s
  config.checkpoint_seconds = 30.0  # seconds between two checkpoints
  config.keep_checkpoints = 3  # how many are kept
  config.tensorboard = False  # also write TensorBoard events
  return config
