#!/usr/bin/env bash
# What each part of SegWithU's head costs or gives on the hippocampus, one change at a time, beside run.sh's comparison.
#   recipes/compare_hippocampus/remedies.sh DATA RUNS
# The start of all of them is the default head trained for all its steps (folds=0).
set -euo pipefail
data=$1 runs=$2
variant() {
  local name=$1
  shift
  sfumato fit perturbation_head --segmenter "$(python -c 'from sfumato.weights import find_segmenter as f; print(f("hippocampus"))')" \
    --data "$data" --threads 1 --out "$runs/swu-$name" --set folds=0 "$@"
  fitted+=(--fitted "$runs/swu-$name")
}
fitted=()
variant all-steps
variant ranking-losses --set correlation=0.25 --set pairwise=0.25 --set tail=0.25 --set anchor=0.05
variant stratified --set easy_share=0.1
variant expected-energy --set residual=expected
variant training-cases --fit-on train
variant paper --set patterns=reference --set fusion=reference --set correlation=0.25 --set pairwise=0.25 --set tail=0.25 \
  --set anchor=0.05 --set centred=false --set combiner=paper --set global_temperature=false --set plain=0 --set steps=200 \
  --set batch_size=2 --set learning_rate=0.001 --set final_learning_rate=0.0003 --set average=0
sfumato compare --segmenter hippocampus --data "$data" --methods softmax,temperature_scaling "${fitted[@]}" --threads 1 \
  --set temperature_scaling.kind=vector --out "$runs/compare-remedies"
