#!/usr/bin/env bash
# Train on several GPUs of one machine: dist_train.sh CONFIG GPUS [OPTIONS]
set -euo pipefail
CONFIG=${1:?usage: dist_train.sh CONFIG GPUS [options of train.py]}
GPUS=${2:?usage: dist_train.sh CONFIG GPUS [options of train.py]}

python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
