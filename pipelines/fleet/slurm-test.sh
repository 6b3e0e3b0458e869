#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/fleet/slurm-test.sh RUNNER FOLDER     (as root)
# A Slurm of its own on this machine, with two nodes, their daemons and a munge, in FOLDER. A job of six chunks is
# restored there while one node dies in the middle of a chunk: nothing is lost, nothing is done twice, and the
# joined file has the bits of the one that a single worker makes. Exit code 77: Slurm is not installed.
set -euo pipefail
run=$(realpath "$1") work=$(realpath -m "$2")
here=$(cd "$(dirname "$0")" && pwd)
for tool in munged slurmctld slurmd sbatch; do
    command -v $tool >/dev/null || { echo "skipped: no $tool (apt-get install slurmctld slurmd slurm-client munge)"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: the daemons need root"; exit 77; }
mkdir -p "$work"/{munge,run,state}
chmod 700 "$work/munge"
export SLURM_CONF=$work/slurm.conf I2SB_RUN=$run

daemons=()
finish() {
    local code=$?
    [ $code = 0 ] || tail -n 15 "$work"/*.log "$work"/job/slurm/*.log >&2 || true
    # The workers of nodes that still run, then the daemons.
    scancel --quiet --user=root 2>/dev/null || true
    kill "${daemons[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    exit $code
}
trap finish EXIT
until_true() { # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "it takes too long: $what" >&2; exit 1; }
        sleep 0.2
    done
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

host=$(hostname -s)
head -c 1024 /dev/urandom >"$work/munge/key"
chmod 600 "$work/munge/key"
munged --foreground --force --key-file="$work/munge/key" --socket="$work/run/munge" --seed-file="$work/munge/seed" \
    --pid-file="$work/munge/pid" --log-file="$work/munged.log" 2>/dev/null &
daemons+=($!)
cat >"$SLURM_CONF" <<EOF
ClusterName=i2sb
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
# Short, because a task that is queued again waits for as long.
AuthInfo=socket=$work/run/munge,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=2
ReturnToService=2
GresTypes=gpu
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=1 Gres=gpu:1
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$(free_port) CPUs=1 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES State=UP
EOF
# A GPU in name, so that --gres is gone through; each node has one.
echo 'Name=gpu File=/dev/null' >"$work/gres.conf"
until_true 30 munge munge --socket="$work/run/munge" --no-input
slurmctld -D -i >"$work/slurmctld.log" 2>&1 &
daemons+=($!)
until_true 30 slurmctld scontrol ping
declare -A node
for name in n1 n2; do
    mkdir -p "$work/spool-$name"
    slurmd -D -N $name >"$work/slurmd-$name.log" 2>&1 &
    node[$name]=$!
    daemons+=($!)
done
idle() { [ "$(sinfo --noheader --Node --format %T | grep -c idle)" = 2 ]; }
until_true 60 nodes idle

gst-launch-1.0 -q videotestsrc num-buffers=48 horizontal-speed=3 ! video/x-raw,format=I420,width=96,height=64,framerate=25/1 \
    ! x264enc key-int-max=20 ! h264parse ! matroskamux ! filesink location="$work/in.mkv"
# So many steps that a chunk takes a while.
plan=("$run" fleet plan "$work/in.mkv")
"${plan[@]}" "$work/job" --chunk 8 --set steps=10
began=$(date +%s%N)
join=$("$here/slurm.sh" "$work/job" "$work/fleet.mkv" --gres=gpu:1 --cpus-per-task=1)

# The second node dies in the middle of a chunk: its daemon, the step's and the worker at once.
# A process may end while it is looked at.
of_node() { { grep -lzs "^SLURMD_NODENAME=$1\$" /proc/[0-9]*/environ || true; } | cut -d/ -f3; }
in_chunk() {
    local pid
    for pid in $(of_node n2); do
        grep -zsq '^work$' "/proc/$pid/cmdline" && ls "$work/job/chunks" | grep -q part- && return
    done
    return 1
}
until_true 60 'a chunk on the second node' in_chunk
workers=$(of_node n2)
steps=$(for pid in $workers; do
    parent=$(sed -n 's/^PPid:\t//p' "/proc/$pid/status" 2>/dev/null) || continue
    grep -q '^slurmstepd' "/proc/$parent/comm" 2>/dev/null && echo "$parent"
done || true)
kill -KILL ${node[n2]} $steps $workers 2>/dev/null || true
echo "the second node died; done at that moment: $(ls "$work/job/chunks" | grep -c json || true) of 6 chunks"

finished() { [ -e "$work/fleet.mkv" ]; }
until_true 300 "the join (job $join)" finished
took=$((($(date +%s%N) - began) / 1000000))
"$run" fleet status "$work/job"
for chunk in 0 1 2 3 4 5; do
    times=$(cat "$work"/job/slurm/*.log | grep -c "^chunk $chunk: 8 of 8 frames restored" || true)
    [ "$times" = 1 ] || { echo "chunk $chunk was finished $times times" >&2; exit 1; }
done
"${plan[@]}" "$work/single" --chunk 48 --set steps=10
"$run" fleet work "$work/single"
"$run" fleet join "$work/single" "$work/single.mkv"
cmp "$work/fleet.mkv" "$work/single.mkv"
echo "one node of two died: $took ms, every chunk once, bits of the single worker"
