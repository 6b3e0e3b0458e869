#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# usage: pipelines/broadcast/soak.sh [SECONDS]     (7200 without)
# The job `broadcast` on this machine's loopback, over a line that loses, delays and reorders packets, from senders
# that go and come back. Fails if the element loses a frame or memory grows; says what was counted.
set -euo pipefail
cd "$(dirname "$0")/../.."
export I2SB_SOAK_SECONDS=${1:-7200}
exec cargo test --release --workspace --test run -- soak:: --nocapture
