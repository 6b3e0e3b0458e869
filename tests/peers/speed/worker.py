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


def in_bytes(model, x):
    """The exported network with its convolutions in bytes (QDQ, weights per channel) but for the first and the last;
    ranges from the picture that is timed, so that they fit as well as they can."""
    import onnx
    from onnxruntime import quantization

    path = model.with_name("model-int8.onnx")
    if path.exists() and path.stat().st_mtime >= model.stat().st_mtime:
        return path

    class Once(quantization.CalibrationDataReader):
        left = [{"x": x}]

        def get_next(self):
            return self.left.pop() if self.left else None

    prepared = model.with_name("model-prepared.onnx")
    quantization.quant_pre_process(str(model), str(prepared))
    convolutions = [node.name for node in onnx.load(str(prepared)).graph.node if node.op_type == "Conv"]
    quantization.quantize_static(
        str(prepared), str(path), Once(), quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=["Conv"],
        per_channel=True, activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=[convolutions[0], convolutions[-1]])
    return path


def exported(precision, folder, x, cache):
    """The network as ONNX in floats or in bytes."""
    model = export(folder, x, cache)
    return in_bytes(model, x) if precision == "int8" else model


def onnxruntime_engine(precision, folder, x, threads, cache):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(exported(precision, folder, x, cache), options, providers=["CPUExecutionProvider"])

    def run():
        return session.run(None, {"x": x})[0]

    return run, run, "all graph optimisations"


def openvino_engine(precision, folder, x, threads, cache):
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(exported(precision, folder, x, cache)), "CPU", {
        "INFERENCE_NUM_THREADS": threads,
        # What is not in bytes is f32, as it is with us.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
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
