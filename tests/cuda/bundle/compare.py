#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Times PyTorch on the network of a recipe: eager and torch.compile, bf16, channels-last."""
import argparse, json, math, statistics, sys, tomllib

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, time):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(time, 2 * width)

    def forward(self, x, t):
        scale, shift = self.time(t)[:, :, None, None].chunk(2, 1)
        return x + self.conv2(F.silu(self.conv1(x) * (1 + scale) + shift))


class Bridge(nn.Module):
    """The network of docs/symbols.md, as `net/bridge` builds it."""

    def __init__(self, c):
        super().__init__()
        self.u, w, self.t = c["unshuffle"], c["widths"], c["time_features"]
        u2 = self.u**2
        self.time = nn.Linear(self.t, self.t)
        self.stem = nn.Conv2d(c["in_channels"] * u2, w[0], 3, padding=1)
        blocks = lambda n, width: nn.ModuleList(Block(width, self.t) for _ in range(n))
        levels = range(len(w) - 1)
        self.encoder = nn.ModuleList(blocks(c["encoder"][l], w[l]) for l in levels)
        self.down = nn.ModuleList(nn.Conv2d(w[l], w[l + 1], 2, stride=2) for l in levels)
        self.middle = blocks(c["middle"], w[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(w[l + 1], w[l], 2, stride=2) for l in levels)
        self.decoder = nn.ModuleList(blocks(c["decoder"][l], w[l]) for l in levels)
        self.head = nn.Conv2d(w[0], 3 * u2, 3, padding=1)

    def forward(self, x, level):
        half = self.t // 2
        f = torch.exp(-math.log(10_000) * torch.arange(half, device=x.device) / half)
        angle = level[:, None] * f
        t = F.silu(self.time(torch.cat([angle.cos(), angle.sin()], 1).to(x.dtype)))
        x = self.stem(F.pixel_unshuffle(x, self.u))
        kept = []
        for blocks, down in zip(self.encoder, self.down):
            for block in blocks:
                x = block(x, t)
            kept.append(x)
            x = down(x)
        for block in self.middle:
            x = block(x, t)
        for l in reversed(range(len(kept))):
            x = self.up[l](x) + kept[l]
            for block in self.decoder[l]:
                x = block(x, t)
        return F.pixel_shuffle(self.head(x), self.u)


def milliseconds(run, runs):
    times = []
    for i in range(runs + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("recipe")
    p.add_argument("--size", default="1920x1080")
    p.add_argument("--runs", type=int, default=15)
    p.add_argument("--json")
    a = p.parse_args()
    with open(a.recipe, "rb") as file:
        recipe = tomllib.load(file)
    if recipe["network"]["family"] != "bridge":
        sys.exit("only networks of the family bridge")
    width, height = map(int, a.size.split("x"))
    net = Bridge(recipe["network"])
    stride = net.u << (len(recipe["network"]["widths"]) - 1)
    up = lambda n: -(-n // stride) * stride
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    net = net.to("cuda", torch.bfloat16, memory_format=torch.channels_last).eval()
    x = torch.randn(1, recipe["network"]["in_channels"], up(height), up(width), device="cuda", dtype=torch.bfloat16)
    x = x.to(memory_format=torch.channels_last)
    level = torch.full((1,), 100.0, device="cuda")
    torch.backends.cudnn.benchmark = True
    figures = {"network": recipe["name"], "size": a.size, "torch": torch.__version__, "device": torch.cuda.get_device_name()}
    with torch.inference_mode():
        want = net(x, level)
        figures["ms_eager"] = milliseconds(lambda: net(x, level), a.runs)
        try:
            fast = torch.compile(net, mode="max-autotune")
            far = (fast(x, level) - want).abs().max() / want.abs().max()
            figures["compile_distance"] = far.item()
            figures["ms_compile"] = milliseconds(lambda: fast(x, level), a.runs)
        except Exception as error:  # It wants a C compiler, for one; what eager mode took is known by now.
            figures["compile_failed"] = f"{type(error).__name__}: {error}"[:2000]
    text = json.dumps(figures, indent=2)
    print(text)
    if a.json:
        with open(a.json, "w") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
