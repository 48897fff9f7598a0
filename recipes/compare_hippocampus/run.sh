#!/usr/bin/env bash
# All methods on the shipped hippocampus segmenter, clean and under shift; five members of a quarter of its size and the
# segmenter make the ensemble.
#   recipes/compare_hippocampus/run.sh DATA RUNS
# DATA: folder with images/ and masks/ of the Medical Segmentation Decathlon's hippocampus task.
# Splits: cases in sorted order, position modulo 5: 0 test, 1 calibration, else train (the package's own rule).
set -euo pipefail
data=$1 runs=$2
members=()
for seed in 1 2 3 4 5; do
  sfumato train --data "$data" --preset resunet3d --set 'widths=[8,16,32,48]' --classes anterior,posterior \
    --epochs 16 --seed "$seed" --out "$runs/hippo-member$seed"
  members+=(--members "$runs/hippo-member$seed")
done
sfumato compare --segmenter hippocampus --data "$data" "${members[@]}" \
  --out "$runs/compare-hippocampus"
# Under shift: the methods of one pass, as fitted above.
fitted=()
for name in temperature_scaling error_head feature_density perturbation_head; do
  fitted+=(--fitted "$runs/compare-hippocampus/methods/$name")
done
sfumato compare --segmenter hippocampus --data "$data" --methods softmax "${fitted[@]}" \
  --corrupt noise,blur,bias,ghost --severities 1,3 --out "$runs/shift-hippocampus"
