# SPDX-License-Identifier: MIT OR Apache-2.0
"""How model.safetensors came from what was trained.

usage: python3 make.py V1 TRAINED OUT     (folders; needs torch and safetensors)
V1 is the preset video-small-v1 of this project's history, TRAINED the folder that engine/recipes/video-small-v2.toml makes.
"""

import sys
from pathlib import Path

import safetensors.torch as st

# Share of TRAINED; the rest is V1, of the same ancestor.
SHARE = 0.8

v1, trained, out = map(Path, sys.argv[1:4])
old, new = (st.load_file(folder / "model.safetensors") for folder in (v1, trained))
model = {k: (SHARE * new[k].float() + (1 - SHARE) * old[k].float()).half().contiguous() for k in new}
st.save_file(model, out / "model.safetensors")
