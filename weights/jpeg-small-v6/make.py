# SPDX-License-Identifier: MIT OR Apache-2.0
"""How detail.safetensors came from the version before.

usage: python3 make.py V5 V6     (folders of the presets; needs torch and safetensors)
V5 is jpeg-small-v5 of this project's history. The perceptual end is V5's, moved by as much as the faithful one moved.
"""

import sys
from pathlib import Path

import safetensors.torch as st

v5, v6 = (Path(folder) for folder in sys.argv[1:3])
old, detail = st.load_file(v5 / "model.safetensors"), st.load_file(v5 / "detail.safetensors")
new = st.load_file(v6 / "model.safetensors")
ends = {k: (new[k].float() + detail[k].float() - old[k].float()).half().contiguous() for k in new}
st.save_file(ends, v6 / "detail.safetensors")
