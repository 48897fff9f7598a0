#!/bin/sh
# Text-guided segmentation of CVC-ClinicDB, from the folder of the data to the tables:
# recipes/text_guided_clinicdb/run.sh DATA RUN
set -eu
data=$1 out=$2
python -m recipes.text_guided_clinicdb.run --data "$data" --out "$out"
python -m recipes.text_guided_clinicdb.tables --out "$out" > "$out/tables.md"
