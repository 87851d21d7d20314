#!/usr/bin/env bash
# tools/demo.sh DATA WORK_DIR: the main job on the embedded world, from granules to a map.
# An interrupted demo goes on where it stopped; PY names the Python to use.
set -euo pipefail
data=$1 work=$2 py=${PY:-python}
tools="$(cd "$(dirname "$0")" && pwd)"
config=$tools/../configs/demo/prithvi_lulc.py

step() { printf '\n== %s\n' "$*"; }

step "World: HLS granules and IO/Esri labels, and one scene that no chip comes from"
"$py" "$tools/make_demo_data.py" "$data"
step "Chips"
"$py" "$tools/prepare_data.py" "$data/granules" "$data/labels" "$data/chips" --chip-size 64
step "Training"
"$py" "$tools/train.py" "$config" --work-dir "$work" --resume
best=$(ls -t "$work"/best_mIoU_iter_*.pth | head -n 1)
step "Map of the scene"
"$py" "$tools/predict.py" "$config" "$best" "$data/scene/granules" "$work/map.tif" --overwrite

step "Test"
"$py" "$tools/test.py" "$config" "$best" --work-dir "$work/test"
step "Done"
echo "per-class table   $work/test"
echo "map for QGIS      $work/map.tif"
echo "picture           $work/map.png"
echo "logs, checkpoints $work"
