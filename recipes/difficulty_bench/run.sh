#!/usr/bin/env bash
# How well scores of difficulty find damaged images and wrong labels, on three data sets.
#   recipes/difficulty_bench/run.sh DATA RUNS
# DATA: folder with hippocampus_msd, acdc and dsb2018, each with images/ and masks/. A killed run goes on.
set -euo pipefail
data=$1 runs=$2 here=$(dirname "$0")
one() { # SET FOLDER SIDE CASES_DESCRIBED CASES_AGREED INSTANCES -- training options
  local set=$1 folder=$2 side=$3 described=$4 agreed=$5 instances=$6
  shift 6
  for fold in 0 1 2; do
    sfumato train --data "$runs/$set/data" --splits "$runs/$set/folds/fold$fold.json" --seed $fold --validation 0 \
      --threads 1 $instances "$@" --out "$runs/$set/fold$fold"
  done
  python "$here/describe.py" "$data/$folder" "$runs/$set" "$runs/$set/described" --side "$side" --limit "$described" $instances
  python "$here/agree.py" "$data/$folder" "$runs/$set" "$runs/$set/agreed" --limit "$agreed" $instances
}
python "$here/contaminate.py" "$data/hippocampus_msd" "$runs/hippocampus"
python "$here/contaminate.py" "$data/acdc" "$runs/acdc" --splits "$here/../acdc/splits.json"
python "$here/contaminate.py" "$data/dsb2018" "$runs/dsb2018" --instances
one hippocampus hippocampus_msd 96 70 60 "" --preset resunet3d --set 'widths=[8,16,32,48]' \
  --classes anterior,posterior --epochs 10
one acdc acdc 160 60 54 "" --preset resunet2d --classes RV,myocardium,LV --batch-size 4 --patch 128x128 \
  --epochs 12 --samples-per-epoch 240
one dsb2018 dsb2018 224 110 110 --instances --preset resunet2d --classes nucleus --batch-size 4 --augment 2 \
  --patch 128x128 --epochs 6 --samples-per-epoch 200
python "$here/tables.py" "$runs/hippocampus" "$runs/acdc" "$runs/dsb2018" --csv "$runs/corruption.csv"
