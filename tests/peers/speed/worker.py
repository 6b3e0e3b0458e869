# SPDX-License-Identifier: MIT OR Apache-2.0
"""One engine in a process of its own: `worker.py ENGINE PRECISION PRESET INPUT.npy THREADS CACHE`.

Says `{"settings": …}` when it is ready. Each line `run N` on standard input is answered with N times
in milliseconds, `output FILE.npy` with the restored picture in that file. With EAGER in the environment
PyTorch does not compile.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def torch_engine(precision, folder, x, threads, _cache):
    import torch

    import networks

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = networks.open_preset(folder).to(dtype=dtype, memory_format=torch.channels_last)
    ready = torch.from_numpy(x).to(memory_format=torch.channels_last)

    candidates = {"eager, channels last": model}
    if "EAGER" not in os.environ:
        candidates["torch.compile, freezing, channels last"] = torch.compile(model)
    best = None
    for settings, f in candidates.items():
        with torch.inference_mode():
            f(ready), f(ready)
            seconds = min(clock(lambda: f(ready)) for _ in range(2))
        if best is None or seconds < best[0]:
            best = (seconds, settings, f)

    def run():
        with torch.inference_mode():
            return best[2](ready)

    return run, lambda: run().float().contiguous().numpy(), best[1]


def export(folder, x, cache):
    """The preset as ONNX at one size; made once."""
    import torch

    import networks

    path = cache / "onnx" / f"{folder.name}-{x.shape[3]}x{x.shape[2]}" / "model.onnx"
    stamp = path.with_suffix(".stamp")
    source = str((folder / "model.safetensors").stat().st_mtime_ns)
    if not stamp.exists() or stamp.read_text() != source:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(networks.open_preset(folder), (torch.from_numpy(x),), str(path),
                          input_names=["x"], output_names=["y"], dynamo=False)
        stamp.write_text(source)
    return path


def onnxruntime_engine(_precision, folder, x, threads, cache):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(export(folder, x, cache), options, providers=["CPUExecutionProvider"])

    def run():
        return session.run(None, {"x": x})[0]

    return run, run, "all graph optimisations"


def openvino_engine(precision, folder, x, threads, cache):
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(export(folder, x, cache)), "CPU", {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    })
    request = compiled.create_infer_request()

    def run():
        return request.infer({"x": x}, share_inputs=True, share_outputs=True)

    return run, lambda: np.array(list(run().values())[0]), "latency hint, 1 stream, not pinned"


ENGINES = {"PyTorch": torch_engine, "ONNX Runtime": onnxruntime_engine, "OpenVINO": openvino_engine}


def clock(f):
    begin = time.perf_counter()
    f()
    return time.perf_counter() - begin


def main():
    engine, precision, folder, x, threads, cache = sys.argv[1:]
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    run, output, settings = ENGINES[engine](precision, Path(folder), np.load(x), int(threads), Path(cache))
    run()

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    answer({"settings": settings})
    for line in sys.stdin:
        word, argument = line.split(maxsplit=1)
        if word == "run":
            answer([clock(run) * 1e3 for _ in range(int(argument))])
        else:
            np.save(argument.strip(), output())
            answer("saved")


if __name__ == "__main__":
    main()
