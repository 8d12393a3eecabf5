#!/bin/bash
# A training on all processors of one machine:  bash on_one_machine.sh mnist --out runs/mnist
#
# The processors are shared out between PROCESSES, or one of them is started for each GPU. Where one dies, all are started again and
# go on from the last checkpoint; so does the same command, typed once more.
set -eu

gpus=$( (nvidia-smi --list-gpus 2>/dev/null || true) | wc -l)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 4))}
threads=$(($(nproc) / processes))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

torchrun --standalone --nproc-per-node="$processes" --max-restarts=3 -m qvae train "$@"
