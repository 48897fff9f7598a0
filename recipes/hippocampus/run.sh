#!/usr/bin/env bash
# The `hippocampus` pair: anterior and posterior hippocampus in T1 MR crops of 1 mm.
#   recipes/hippocampus/run.sh DATA RUNS
# DATA: folder with images/ and masks/ of the Medical Segmentation Decathlon's hippocampus task.
# Splits: cases in sorted order, position modulo 5: 0 test, 1 calibration, else train (the package's own rule).
set -euo pipefail
data=$1 runs=$2 here=$(dirname "$0")
sfumato train --data "$data" --preset resunet3d --classes anterior,posterior --out "$runs/hippocampus"
sfumato fit perturbation_head --segmenter "$runs/hippocampus" --data "$data" --out "$runs/hippocampus-swu"
sfumato evaluate "$runs/hippocampus-swu" --data "$data" --split test --out "$runs/hippocampus-results"
python "$here/../ship.py" "$runs/hippocampus-swu" "$here/card.json" hippocampus
sfumato evaluate hippocampus --data "$data" --split test --out "$runs/hippocampus-shipped"
python "$here/../ship.py" "$runs/hippocampus-swu" "$here/card.json" hippocampus --results "$runs/hippocampus-shipped/results.json"
