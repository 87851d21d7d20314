#!/usr/bin/env bash
# tools/study.sh STUDY DATA REPORT [options of make_demo_data.py]: a label-efficiency study on the
# embedded world, from granules to figures. An interrupted study goes on where it stopped.
# PY names the Python to use, JOBS the runs at a time, UNLABELLED the MGRS tiles of a second world
# without labels for the pre-training (none: the study's config names other chips).
set -euo pipefail
study=$1 data=$2 report=$3 py=${PY:-python}
shift 3
tools="$(cd "$(dirname "$0")" && pwd)"

step() { printf '\n== %s\n' "$*"; }

step "World: HLS granules and IO/Esri labels"
"$py" "$tools/make_demo_data.py" "$data" "$@"
step "Chips"
"$py" "$tools/prepare_data.py" "$data/granules" "$data/labels" "$data/chips" --chip-size 64
if [ -n "${UNLABELLED:-}" ]; then
  step "World without labels, for the pre-training"
  # shellcheck disable=SC2086  # one word a tile
  "$py" "$tools/make_demo_data.py" "$data/unlabelled_tiles" --scene '' --years 2021 2022 \
    --tiles $UNLABELLED
  "$py" "$tools/prepare_data.py" --unlabelled "$data/unlabelled_tiles/granules" \
    "$data/unlabelled" --chip-size 64 --split-ratio 0.95 0.05 0
fi
step "Runs"
"$py" "$tools/label_efficiency.py" run "$study" --jobs "${JOBS:-$(getconf _NPROCESSORS_ONLN)}"
step "Report"
"$py" "$tools/label_efficiency.py" report "$study" --out "$report"
