#!/usr/bin/env bash
# All methods on the shipped hippocampus segmenter, clean and under shift; five small members make the ensemble.
#   recipes/compare_hippocampus/run.sh DATA RUNS
# DATA: folder with images/ and masks/ of the Medical Segmentation Decathlon's hippocampus task.
# Splits: cases in sorted order, position modulo 5: 0 test, 1 calibration, else train (the package's own rule).
# The segmenter and all methods but the ensemble's members are of one size; a member has a quarter of its parameters.
set -euo pipefail
data=$1 runs=$2
members=()
for seed in 1 2 3 4 5; do
  sfumato train --data "$data" --preset resunet3d --set 'widths=[8,16,32,48]' --classes anterior,posterior \
    --epochs 16 --seed "$seed" --out "$runs/hippo-member$seed"
  members+=(--members "$runs/hippo-member$seed")
done
sfumato compare --segmenter hippocampus --data "$data" "${members[@]}" \
  --corrupt noise,blur,bias,ghost,motion --severities 1,2,3 --out "$runs/compare-hippocampus"
