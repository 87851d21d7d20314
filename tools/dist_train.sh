#!/usr/bin/env bash
# tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]; one process a GPU, or CPU ranks.
# NNODES, NODE_RANK, MASTER_ADDR and PORT as in MMSegmentation.
set -euo pipefail
tools="$(cd "$(dirname "$0")" && pwd)"
config=$1 processes=$2; shift 2
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$tools/train.py" "$config" --launcher pytorch "$@"
