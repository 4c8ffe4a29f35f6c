#!/usr/bin/env bash
# Everything worth running on one GPU, in about ten minutes:
#
#   bash benchmarks/gpu.sh [MNIST_DIR [CIFAR10_DIR]]
#
# Our round, plain JAX, the PyTorch loop and torch.func.vmap, in the environment
# that this is called in (jax with CUDA, and torch), at 10, 100 and 1000 clients
# a round; and pfl-research's CIFAR-10 benchmark. Results are appended to
# benchmarks/results/speed.jsonl and cifar10.jsonl. What takes too long is
# stopped, and the rest goes on.
set -uo pipefail
cd "$(dirname "$0")/.."

python -c 'import jax; assert jax.default_backend() == "gpu", "no GPU"' || exit 1
[ -n "${1:-}" ] && export FEDJAX_SIM_DATA_DIR=$1

speed() {
  timeout "$1" python -m benchmarks.speed --here --repeats 3 \
    --contenders ours jax torch torch_vmap "${@:2}" \
    || echo "stopped: ${*:2}"
}

timeout 90 python -m benchmarks.cifar10 ${2:+--data-dir "$2"}
speed 90 --tasks mnist_2nn --clients 10
speed 90 --tasks mnist_cnn --clients 10
speed 90 --tasks char_lstm --clients 10
speed 60 --tasks mnist_2nn --clients 100
speed 90 --tasks mnist_cnn --clients 100
speed 60 --tasks char_lstm --clients 100
speed 60 --tasks mnist_2nn --clients 1000 --examples 60
speed 60 --tasks mnist_cnn --clients 1000 --examples 60
