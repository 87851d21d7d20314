#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]; one process a GPU, or CPU ranks.
# NNODES, NODE_RANK, MASTER_ADDR and PORT as in MMSegmentation.
set -euo pipefail
tools="$(cd "$(dirname "$0")" && pwd)"
config=$1 checkpoint=$2 processes=$3; shift 3
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
