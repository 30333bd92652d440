#!/usr/bin/env bash
# Train with several processes on one machine: dist_train.sh CONFIG PROCESSES [OPTIONS]
# Each process uses one GPU (NCCL). Without GPUs, the processes share the CPU (Gloo).
# For several machines set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
USAGE='usage: dist_train.sh CONFIG PROCESSES [options of train.py]'
CONFIG=${1:?$USAGE}
PROCESSES=${2:?$USAGE}

if [ -z "${NNODES:-}${PORT:-}" ]; then
    RENDEZVOUS=(--standalone) # any free port
else
    RENDEZVOUS=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi
python -m torch.distributed.run "${RENDEZVOUS[@]}" --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
