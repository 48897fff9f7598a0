#!/usr/bin/env bash
# All methods on a 2-D network for cine cardiac MR; five small members make the ensemble.
#   recipes/compare_acdc/run.sh DATA RUNS
# DATA: folder with images/ and masks/ named patientNNN_frameNN. Splits: patients 001-050 train, 051-060 calibration,
# 061-070 test (recipes/acdc/splits.json). The weights stay out of the package (CC BY-NC-SA data).
set -euo pipefail
data=$1 runs=$2 splits=$(dirname "$0")/../acdc/splits.json
train=(sfumato train --data "$data" --splits "$splits" --preset resunet2d --classes RV,myocardium,LV
  --batch-size 4 --samples-per-epoch 400)
"${train[@]}" --epochs 24 --out "$runs/acdc"
members=()
for seed in 1 2 3 4 5; do
  "${train[@]}" --set 'widths=[8,16,32,64,64]' --epochs 14 --seed "$seed" --out "$runs/acdc-member$seed"
  members+=(--members "$runs/acdc-member$seed")
done
sfumato compare --segmenter "$runs/acdc" --data "$data" --splits "$splits" "${members[@]}" \
  --out "$runs/compare-acdc"
