#!/usr/bin/env bash
# Cine cardiac MR (ACDC) with a 2-D backbone, slice by slice; the weights stay out of the package (CC BY-NC-SA data).
#   recipes/acdc/run.sh DATA RUNS
# DATA: folder with images/ and masks/ named patientNNN_frameNN. Splits: patients 001-050 train, 051-060 calibration,
# 061-070 test (splits.json beside this file).
set -euo pipefail
data=$1 runs=$2 here=$(dirname "$0")
sfumato train --data "$data" --splits "$here/splits.json" --preset resunet2d --classes RV,myocardium,LV \
  --batch-size 4 --samples-per-epoch 400 --out "$runs/acdc"
sfumato fit perturbation_head --segmenter "$runs/acdc" --data "$data" --splits "$here/splits.json" --out "$runs/acdc-swu"
sfumato evaluate "$runs/acdc-swu" --data "$data" --splits "$here/splits.json" --split test --out "$runs/acdc-results"
