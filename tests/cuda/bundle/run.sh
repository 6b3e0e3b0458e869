#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs on a machine with an NVIDIA driver and Python with PyTorch for CUDA 13; needs no network.
#
#   ./run.sh OUT [MINUTES]
#
# Checks the CUDA engine against the reference numbers and against the CPU, measures it and PyTorch on
# the same networks, then trains what queue.txt names for MINUTES (0: not at all) and writes everything
# into OUT, in files under 16 MB. The same command goes on with the training where it stopped.
set -uo pipefail
[ $# -ge 1 ] || { sed -n 3,9p "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
minutes=${2:-0}
device=${DEVICE:-cuda:0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
say() { printf '== %s\n' "$*" | tee -a "$out/log.txt"; }
step() { # step NAME COMMAND...: its output to NAME.txt; a failure is told and counted, and the rest runs
    local name=$1; shift
    say "$name: $*"
    if "$@" >"$out/$name.txt" 2>&1; then say "$name: done"
    else say "$name: FAILED ($?), see $name.txt"; tail -5 "$out/$name.txt"; failed=$((failed + 1)); fi
}

# PyTorch brings CUDA's libraries; the driver's own must come from the machine, so they go in front.
libraries=$(python3 -c 'import nvidia, glob
print(":".join(d for p in nvidia.__path__ for d in sorted(glob.glob(p + "/*/lib"))))' 2>/dev/null)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} CUDA_CACHE_PATH=$out/jit
for name in i2sb libi2sb-cuda.so libgsti2sb.so; do
    [ -f "$here/bin/$name.gz" ] && gunzip -c "$here/bin/$name.gz" >"$work/$name" && chmod +x "$work/$name"
done
i2sb=$work/i2sb

{ date -u; uname -a; nvidia-smi 2>&1; python3 --version; python3 -c 'import torch; print("torch", torch.__version__)' 2>&1
  cat "$here/version.txt"; } >"$out/machine.txt"
missing=$(ldd "$i2sb" 2>&1 | grep 'not found')
if [ -n "$missing" ]; then
    say "libraries are missing; is PyTorch for CUDA 13 installed, and a driver of version 580 or newer?"
    printf '%s\n' "$missing" | tee -a "$out/log.txt"
    exit 3
fi
if ! "$i2sb" bench --model "$here/recipes/jpeg-nano-v1.toml" --device "$device" --size 64x64 --runs 1 >"$out/first-call.txt" 2>&1; then
    say "the first call on $device fails: $(tail -1 "$out/first-call.txt")"
    exit 4
fi

step verify "$i2sb" verify "$here/fixtures" --device "$device"
# One of each size: what other presets and recipes name has the same networks.
mapfile -t models < <(sed "s|^|$here/|" "$here/networks.txt")
for model in "${models[@]}"; do
    name=$(basename "$model" .toml)
    for precision in f32 f16 bf16; do
        step "bench-$name-$precision" "$i2sb" bench --model "$model" --device "$device" --precision $precision \
            --size 1920x1080 --runs 15 --compare-cpu --json "$out/bench-$name-$precision.json"
    done
done
for model in "${models[@]}"; do # what graphs bring, and whether they bring the same
    name=$(basename "$model" .toml)
    step "bench-$name-bf16-launches" env I2SB_CUDA_GRAPHS=0 "$i2sb" bench --model "$model" --device "$device" \
        --precision bf16 --size 1920x1080 --runs 15 --compare-cpu --json "$out/bench-$name-bf16-launches.json"
done
for precision in f32 bf16; do
    step "bench-adm-256-$precision" "$i2sb" bench --model adm-256 --device "$device" --precision $precision \
        --size 256x256 --runs 15 --json "$out/bench-adm-256-$precision.json"
done
if command -v gst-launch-1.0 >/dev/null && [ -f "$work/libgsti2sb.so" ]; then
    export GST_PLUGIN_PATH=$work I2SB_CUDA_LIBRARY=$work/libi2sb-cuda.so
    step inspect gst-inspect-1.0 i2sbrestore
    step element bash -c "time gst-launch-1.0 videotestsrc num-buffers=300 pattern=smpte ! \
        video/x-raw,format=I420,width=1920,height=1080 ! i2sbrestore device=$device ! fakesink"
else
    say "element: GStreamer is not here, not measured"
fi

for model in "${models[@]}"; do # a preset's config.toml, or a recipe
    name=$(basename "$model" .toml)
    [ -d "$model" ] && model=$model/config.toml
    step "torch-$name" python3 "$here/compare.py" "$model" --size 1920x1080 --json "$out/torch-$name.json"
done

# A state larger than a file may be is kept in parts; `join` makes it one again.
keep() { # keep NAME
    mkdir -p "$out/train/$1"
    for file in "$work/train/$1"/*; do
        rm -f "$out/train/$1/$(basename "$file")".part-*
        split -b 15000000 -d -a 3 "$file" "$out/train/$1/$(basename "$file").part-"
    done
}
join() { # join NAME
    mkdir -p "$work/train/$1"
    for first in "$out/train/$1"/*.part-000; do
        [ -f "$first" ] && cat "${first%000}"??? >"$work/train/$1/$(basename "${first%.part-000}")"
    done
    return 0
}
train=$(realpath "${TRAIN:-$here/train}")
eval=$(realpath "${EVAL:-$here/eval}")
cd "$here" || exit 5 # recipes name the presets that they begin with from here
end=$((SECONDS + minutes * 60))
while read -r name share; do
    left=$(((end - SECONDS) * share / 100))
    [ "$left" -ge 30 ] || continue
    join "$name"
    say "train $name for $left s"
    while [ "$left" -ge 30 ]; do # in pieces, so that little is lost if the machine goes away
        piece=$((left < 600 ? left : 600)); begin=$SECONDS
        timeout -s INT -k 60 "$piece" "$i2sb" train --data "$train" --recipe "$here/recipes/$name.toml" \
            --out "$work/train/$name" --eval "$eval" --device "$device" --precision bf16 \
            >>"$out/train-$name.txt" 2>&1
        code=$?
        keep "$name"
        case $code in 0) say "train $name: finished"; break ;; 124 | 130) ;; *)
            say "train $name: FAILED ($code), see train-$name.txt"; failed=$((failed + 1)); break ;; esac
        left=$((left - (SECONDS - begin)))
    done
done <"$here/queue.txt"
rm -rf "$out/jit.tar"; tar -cf "$work/jit.tar" -C "$out" jit 2>/dev/null && split -b 15000000 -d -a 3 "$work/jit.tar" "$out/jit.tar.part-"
rm -rf "$out/jit"
say "$failed failures"
[ "$failed" -eq 0 ]
