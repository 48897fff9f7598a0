#!/usr/bin/env bash
# What wrong labels in a tenth of the training cases cost, and what filtering and DUO give back (hippocampus MR).
#   recipes/difficulty_training/run.sh DATA RUNS
# DATA: folder with images/ and masks/ of the Medical Segmentation Decathlon's hippocampus task. A killed run goes on.
set -euo pipefail
data=$1 runs=$2 here=$(dirname "$0")
net=(--preset resunet3d --set 'widths=[8,16,32,48]' --classes anterior,posterior --threads 1 --validation 0)

python "$here/../difficulty_bench/contaminate.py" "$data" "$runs"
python "$here/arms.py" "$runs"
for fold in 0 1 2; do
  sfumato train --data "$runs/data" --splits "$runs/folds/fold$fold.json" "${net[@]}" --epochs 10 --seed $fold --out "$runs/fold$fold"
done
sfumato difficulty score "$runs/data" --out "$runs/index.parquet" --maps prototype --set side=96 --copies 0 \
  --splits "$runs/splits.json" --split train \
  --segmenter "$runs/fold0" --segmenter "$runs/fold1" --segmenter "$runs/fold2"
for score in label auv; do
  sfumato difficulty filter "$runs/index.parquet" --by $score --keep 0.9 --splits "$runs/splits.json" --to "$runs/arms/$score.json"
done
train() { # ARM SEED DATA SPLITS [OPTIONS]
  sfumato train --data "$3" --splits "$4" "${net[@]}" --epochs 6 --seed "$2" --out "$runs/arms/$1-$2" "${@:5}"
}
for seed in 0 1 2; do
  train clean $seed "$data" "$runs/splits.json"
  for arm in dirty oracle random label auv; do
    train $arm $seed "$runs/data" "$runs/arms/$arm.json"
  done
  train duo $seed "$runs/data" "$runs/splits.json" --strategy duo
done
python "$here/dice.py" "$data" "$runs/splits.json" "$runs/arms" --arms clean,dirty,oracle,random,label,auv,duo
