#!/usr/bin/env bash
# The `nuclei` pair: nuclei in 2-D microscopy, fluorescence and stained tissue.
#   recipes/nuclei/run.sh DATA RUNS
# DATA: folder with images/ and masks/ of the Data Science Bowl 2018 (stage 1), masks numbering the objects.
# Splits: images in sorted order, position modulo 5: 0 test, 1 calibration, else train (the package's own rule).
# The image in stardist's wheel, which the demo shows, is not among the 445 images this was trained on (compared by
# normalised cross-correlation: upright at full size, in all eight orientations at half size).
set -euo pipefail
data=$1 runs=$2 here=$(dirname "$0")
sfumato train --data "$data" --preset resunet2d --instances --classes nucleus --batch-size 4 --augment 2 \
  --samples-per-epoch 200 --epochs 10 --out "$runs/nuclei"
sfumato fit perturbation_head --segmenter "$runs/nuclei" --data "$data" --instances --out "$runs/nuclei-swu"
sfumato evaluate "$runs/nuclei-swu" --data "$data" --split test --out "$runs/nuclei-results"
python "$here/../ship.py" "$runs/nuclei-swu" "$here/card.json" nuclei
sfumato evaluate nuclei --data "$data" --split test --out "$runs/nuclei-shipped"
python "$here/../ship.py" "$runs/nuclei-swu" "$here/card.json" nuclei --results "$runs/nuclei-shipped/results.json"
