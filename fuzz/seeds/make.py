# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes the binary seeds beside it: small files in the layout of the original software's.

No torch is needed: the classes that its files name are stood in for by empty ones.
"""

import argparse
import collections
import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile

HERE = pathlib.Path(__file__).parent
torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


class FloatStorage:
    pass


def _rebuild_tensor_v2(*_):
    pass


FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
_rebuild_tensor_v2.__module__ = "torch._utils"
torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2


class Storage:
    def __init__(self, key, count):
        self.key, self.count = key, count


class Tensor:
    def __init__(self, key, *shape):
        self.key, self.shape = key, shape

    def __reduce__(self):
        strides, count = [], 1
        for size in reversed(self.shape):
            strides.insert(0, count)
            count *= size
        hooks = collections.OrderedDict()
        return _rebuild_tensor_v2, (Storage(self.key, count), 0, self.shape, tuple(strides), False, hooks)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", FloatStorage, value.key, "cpu", value.count)


def archive(path, value, storages):
    data = io.BytesIO()
    Pickler(data, 2).dump(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        entries = {"data.pkl": data.getvalue(), "byteorder": b"little", **storages, "version": b"3\n"}
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo("a/" + name), content)


net = collections.OrderedDict(w=Tensor("0", 2, 3), b=Tensor("1", 2))
ema = {"decay": 0.99, "num_updates": 3, "shadow_params": [Tensor("0", 2, 3), Tensor("1", 2)], "collected_params": None}
floats = {"data/0": struct.pack("<6f", *range(6)), "data/1": struct.pack("<2f", 0.5, -1)}
archive(HERE / "torch" / "training.pt", {"net": net, "ema": ema, "optimizer": {"state": {}}, "sched": None}, floats)
archive(HERE / "torch" / "plain.pt", dict(net), floats)
options = argparse.Namespace(name="a", corrupt="jpeg-5", interval=1000, t0=1e-4, ot_ode=False, load=None,
                             path=pathlib.PurePosixPath("/a/b"))
(HERE / "options" / "options.pkl").write_bytes(pickle.dumps(options, 4))
(HERE / "options" / "protocol0.pkl").write_bytes(pickle.dumps(options, 0))
