#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/fleet/two-workers.sh RUNNER VIDEO FOLDER
# What a second worker is worth: the same chunks by one worker on one core, then by two on a core each, in turn, three
# times. Prints seconds and the share of the possible: half of one worker's seconds, by two's.
set -euo pipefail
shopt -s inherit_errexit
run=$(realpath "$1") video=$(realpath "$2") folder=$(realpath -m "$3")
mkdir "$folder"

# Seconds that so many workers take for a new job.
measure() { # WORKERS JOB
    local workers=$1 job=$2 before after
    "$run" fleet plan "$video" "$job" --chunk 4 >/dev/null
    before=$(date +%s%N)
    for ((core = 0; core < workers; core++)); do
        taskset -c "$core" "$run" fleet work "$job" >/dev/null 2>&1 &
    done
    wait
    after=$(date +%s%N)
    [ -z "$("$run" fleet status "$job" --missing)" ] || { echo "chunks are missing" >&2; return 1; }
    awk -v ns=$((after - before)) 'BEGIN { printf "%.2f\n", ns / 1e9 }'
}

echo "round  one worker (s)  two workers (s)  of the possible"
for round in 1 2 3; do
    one=$(measure 1 "$folder/one-$round")
    two=$(measure 2 "$folder/two-$round")
    awk -v r=$round -v a="$one" -v b="$two" 'BEGIN { printf "%5d  %14.2f  %15.2f  %15.2f\n", r, a, b, a / 2 / b }'
done
