# SPDX-License-Identifier: MIT OR Apache-2.0
"""How model.safetensors and detail.safetensors came from what was trained.

usage: python3 make.py FIRST LAST JPEG OUT     (folders; needs torch and safetensors)
FIRST is what engine/recipes/video-small-v4a.toml makes, LAST what video-small-v4.toml makes from it, JPEG the preset jpeg-small-v6.
30 % of FIRST, which sharpens more, keep VMAF above the input's; the perceptual end is as far away as JPEG's.
"""

import sys
from pathlib import Path

import safetensors.torch as st

SHARE = 0.3

first, last, jpeg, out = (Path(folder) for folder in sys.argv[1:5])
a, b = (st.load_file(folder / "model.safetensors") for folder in (first, last))
near, far = (st.load_file(jpeg / f"{end}.safetensors") for end in ("model", "detail"))
model = {k: (SHARE * a[k].float() + (1 - SHARE) * b[k].float()).half().contiguous() for k in a}
ends = {k: (model[k].float() + far[k].float() - near[k].float()).half().contiguous() for k in model}
st.save_file(model, out / "model.safetensors")
st.save_file(ends, out / "detail.safetensors")
