# SPDX-License-Identifier: MIT OR Apache-2.0
"""How model.safetensors and detail.safetensors came from what was trained.

usage: python3 make.py V2 TRAINED OUT     (folders; needs torch and safetensors)
V2 is the preset jpeg-small-v2 of this project's history, TRAINED the folder that engine/recipes/jpeg-small-v4.toml makes.
"""

import sys
from pathlib import Path

import safetensors.torch as st

# Share of TRAINED; the rest is V2, from which it was trained on.
SHARE = 0.7

v2, trained, out = (Path(folder) for folder in sys.argv[1:4])
old, detail = st.load_file(v2 / "model.safetensors"), st.load_file(v2 / "detail.safetensors")
new = st.load_file(trained / "model.safetensors")
# As it is stored, in half precision, so that the detail end lies exactly where the other one does.
model = {k: (SHARE * new[k].float() + (1 - SHARE) * old[k].float()).half().contiguous() for k in new}
ends = {k: (model[k].float() + detail[k].float() - old[k].float()).half().contiguous() for k in new}
st.save_file(model, out / "model.safetensors")
st.save_file(ends, out / "detail.safetensors")
