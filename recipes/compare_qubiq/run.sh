#!/usr/bin/env bash
# How well each method's map agrees with where seven readers disagree (QUBIQ brain growth, 39 slices).
#   recipes/compare_qubiq/run.sh DATA RUNS
# DATA: folder with images/ and masks_annotator1/ ... masks_annotator7/. The network learns the first reader's labels.
# Splits: cases in sorted order, position modulo 5: 0 test, 1 calibration, else train (the package's own rule).
# The data's licence is not stated: research only, nothing of it is shipped.
set -euo pipefail
data=$1 runs=$2
train=(sfumato train --data "$data" --preset resunet2d --batch-size 4 --samples-per-epoch 92 --epochs 40)
"${train[@]}" --out "$runs/qubiq"
members=()
for seed in 1 2 3; do
  "${train[@]}" --set 'widths=[8,16,32,64,64]' --seed "$seed" --out "$runs/qubiq-member$seed"
  members+=(--members "$runs/qubiq-member$seed")
done
sfumato compare --segmenter "$runs/qubiq" --data "$data" "${members[@]}" --out "$runs/compare-qubiq"
