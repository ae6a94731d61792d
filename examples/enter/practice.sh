#!/bin/sh
# Makes a board with one simulated task to practise on, in the folder given, and an empty submission to it:
#   sh practice.sh practice
#   python enter.py practice/mine practice/data/crop/crop_*.csv --unit parcel_id,year --label crop --features "A\d\d"
#   Rscript enter.R practice/mine crop "^A[0-9]{2}$" parcel_id,year practice/data/crop/crop_*.csv
set -eu
mkdir -p "$1/board"
cd "$1"
rs05bench simulate --tables --size tiny --out data
sed -i.kept 's/^name: crop$/name: crop-simulated/' data/crop/card.yaml && rm data/crop/card.yaml.kept
rs05bench sweep data/crop/card.yaml --out runs --models floor/majority --splits leave-state-out --budgets 20-units,50-units --seeds 0-4 --jobs 1 --quiet
rs05bench leaderboard freeze runs --task crop-simulated --splits leave-state-out --budgets 20-units,50-units --card-file data/crop/card.yaml --board board
rs05bench submit template crop-simulated --board board --out mine
