#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: docs/pictures/make.sh PHOTO OUT [CLIP]
# Makes the pictures of docs/properties.md: a place in PHOTO, restored with one property changed at a time by the
# element itself, three times as large; and that of docs/archive.md, of a few frames of CLIP. Needs gst-launch-1.0 with
# the element, and i2sb-run.
set -euo pipefail
photo=$1 out=$2 clip=${3:-}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the element sees: 128 by 80 pixels, even corners, so that the blocks stay whole.
place='videocrop left=400 top=280 right=752 bottom=508'
large='videoconvert ! videoscale method=nearest-neighbour ! video/x-raw,width=384,height=240 ! videoconvert ! jpegenc quality=90'
gst-launch-1.0 -q filesrc location="$photo" ! jpegparse ! avdec_mjpeg ! videoconvert ! video/x-raw,format=RGB ! $place \
    ! pngenc snapshot=false ! filesink location="$work/place.png"
# NAME PROPERTIES...
picture() {
    local name=$1
    shift
    gst-launch-1.0 -q filesrc location="$work/place.png" ! pngdec ! videoconvert ! video/x-raw,format=RGB \
        ! i2sbrestore "$@" ! $large ! filesink location="$out/$name.jpg"
}
picture before enabled=false
picture after
picture strength-half strength=0.5
picture detail-half detail=0.5
picture detail-full detail=1
picture compare-split compare=split
picture compare-side compare=side
picture steps-4 steps=4

# Lines of two moments woven into one frame, compressed as one. `interlace` of GStreamer makes such frames.
lines='video/x-raw,format=I420,width=128,height=80,framerate=25/1'
gst-launch-1.0 -q videotestsrc num-buffers=12 pattern=smpte75 horizontal-speed=4 \
    ! video/x-raw,format=I420,width=128,height=80,framerate=50/1 ! interlace field-pattern=0 top-field-first=true \
    ! capssetter replace=true caps="$lines" ! jpegenc quality=12 ! multifilesink location="$work/woven-%d.jpg"
woven() {
    local name=$1
    shift
    gst-launch-1.0 -q filesrc location="$work/woven-3.jpg" ! jpegparse ! avdec_mjpeg ! videoconvert ! video/x-raw,format=I420 \
        ! capssetter caps=video/x-raw,framerate=25/1,interlace-mode=interleaved,field-order=top-field-first \
        ! i2sbrestore "$@" ! capssetter replace=true caps="$lines" ! $large ! filesink location="$out/$name.jpg"
}
woven interlaced-before enabled=false
woven interlaced-frame interlaced=frame
woven interlaced-fields interlaced=fields

# Frames of a clip, as a master that says what it is; the job shows what it changed most.
[ -n "$clip" ] || exit 0
gst-launch-1.0 -q filesrc location="$clip" ! parsebin ! avdec_h264 \
    ! videocrop left=420 right=620 top=200 bottom=384 ! videoconvert ! video/x-raw,format=I420 \
    ! capssetter caps=video/x-raw,colorimetry=bt709 ! avenc_ffv1 ! matroskamux ! filesink location="$work/master.mkv"
sed 's/^changes = .*/changes = 2/' "$(dirname "$0")/../../pipelines/archive/pipeline.toml" >"$work/pipeline.toml"
i2sb-run --recipe "$work/pipeline.toml" "$work/master.mkv" "$work/restored.mkv"
gst-launch-1.0 -q filesrc location="$work/restored.mkv.changes.png" ! pngdec ! videoconvert ! jpegenc quality=92 \
    ! filesink location="$out/archive-changes.jpg"
