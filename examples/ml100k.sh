#!/usr/bin/env bash
# From raw files to recommendations: MovieLens 100K with plots and posters, FREEDOM with CLEAR, films that nobody has seen.
#
#   examples/ml100k.sh FOLDER [OUT]
#
# FOLDER holds the ratings (u.data and u.item as GroupLens publishes them, or ml100k.inter with numbers from 0), items.tsv
# with movie_id, plot and poster_file (or itemID, title, plot …), and the folder posters. Four to ten minutes on one core.
set -euo pipefail
RAW=${1:?"usage: examples/ml100k.sh FOLDER [OUT]"}
OUT=${2:-runs/ml100k}
if [ -f "$RAW/u.data" ]; then
  SOURCE=(movielens "$RAW" --items "$RAW/items.tsv" --item-id movie_id)
else
  SOURCE=(tables "$RAW/ml100k.inter" "$RAW/items.tsv")
fi

# raw files → 5-core, texts and posters as features, a split; what was found is said
prismrec data prepare "${SOURCE[@]}" --images "$RAW/posters" --kcore 5 --split 8:1:1 --seed 0 --overwrite -o "$OUT/data"
prismrec data inspect "$OUT/data"

# features → FREEDOM with CLEAR, chosen on validation, the test part read once at the end; its page; ten films for a user
prismrec train "$OUT/data" --model freedom --plugin clear --seed 1 --out "$OUT/run"
prismrec report "$OUT/run"
prismrec recommend "$OUT/run" --user "${USER_ID:-1}" --top 10

# the same films, a tenth of them never seen in training: does their content say who will take them?
prismrec data prepare "${SOURCE[@]}" --images "$RAW/posters" --kcore 5 --split item --seed 0 --overwrite -o "$OUT/cold-data"
prismrec cold "$OUT/cold-data" --model freedom,freedom+clear --seed 1 --out "$OUT/cold"
