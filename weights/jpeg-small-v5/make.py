# SPDX-License-Identifier: MIT OR Apache-2.0
"""How model.safetensors and detail.safetensors came from what was trained.

usage: python3 make.py V4 TRAINED OUT     (folders; needs torch and safetensors)
V4 is the preset jpeg-small-v4 of this project's history, TRAINED the folder that engine/recipes/jpeg-small-v5.toml makes.
The perceptual end is V4's, moved by as much as the faithful one moved.
"""

import sys
from pathlib import Path

import safetensors.torch as st

v4, trained, out = (Path(folder) for folder in sys.argv[1:4])
old, detail = st.load_file(v4 / "model.safetensors"), st.load_file(v4 / "detail.safetensors")
new = st.load_file(trained / "model.safetensors")
# As it is stored, in half precision, so that the detail end lies exactly where the other one does.
model = {k: new[k].half().contiguous() for k in new}
ends = {k: (model[k].float() + detail[k].float() - old[k].float()).half().contiguous() for k in new}
st.save_file(model, out / "model.safetensors")
st.save_file(ends, out / "detail.safetensors")
