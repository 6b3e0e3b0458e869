#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/fleet/slurm.sh JOB OUT.mkv [options of sbatch, such as --gres=gpu:1 or --cpus-per-task=2]
# Submits the chunks of JOB that are not done, one a task, and then the join. Prints the number of the join's job.
# A task whose node dies is queued again by Slurm, one whose command fails by itself, three times at most. Run it
# again after anything: what is done is not done twice.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
job=$(realpath "$1") out=$(realpath -m "$2")
shift 2
run=${I2SB_RUN:-$(command -v i2sb-run)} || { echo "i2sb-run is not on PATH; set I2SB_RUN" >&2; exit 1; }
mkdir -p "$job/slurm"
list=$(mktemp "$job/slurm/XXXXXX.chunks")
"$run" fleet status "$job" --missing >"$list"
count=$(wc -l <"$list")
most=$(scontrol show config | sed -n 's/^MaxArraySize *= //p')

# What a task does: its line of the list.
task() {
    cat <<EOF
#!/bin/bash
chunk=\$(sed -n "\$((SLURM_ARRAY_TASK_ID + $1 + 1))p" '$list')
'$run' fleet work '$job' --chunk "\$chunk" && exit
[ "\${SLURM_RESTART_COUNT:-0}" -lt 3 ] || exit 1
scontrol requeue "\${SLURM_ARRAY_JOB_ID}_\$SLURM_ARRAY_TASK_ID"
EOF
}
after=()
for ((first = 0; first < count; first += most)); do
    last=$((count - first < most ? count - first - 1 : most - 1))
    id=$(task "$first" | sbatch --parsable --job-name=i2sb --requeue --open-mode=append --array="0-$last" \
        --output="$job/slurm/%A_%a.log" "$@")
    after+=("$id")
done
depend=()
[ ${#after[@]} = 0 ] || depend=(--dependency="afterok$(printf ':%s' "${after[@]}")" --kill-on-invalid-dep=yes)
sbatch --parsable --job-name=i2sb-join --output="$job/slurm/join.log" "${depend[@]}" \
    --wrap "'$run' fleet join '$job' '$out'"
