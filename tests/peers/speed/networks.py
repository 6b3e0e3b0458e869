# SPDX-License-Identifier: MIT OR Apache-2.0
"""The networks of a preset's folder in PyTorch, built from config.toml and model.safetensors."""

import math
import tomllib
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn


def sinusoids(level: float, features: int) -> torch.Tensor:
    """Timestep embedding, cosines first."""
    half = features // 2
    angle = level * torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    return torch.cat([angle.cos(), angle.sin()])


class BridgeBlock(nn.Module):
    """x + conv2(silu(conv1(x)·(1 + scale) + shift))."""

    def __init__(self, width: int, time_features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(time_features, 2 * width)

    def forward(self, x, time):
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv2(F.silu(self.conv1(x) * (1 + scale) + shift))


class Bridge(nn.Module):
    """The `bridge` family (engine/src/net/bridge/layout.rs)."""

    def __init__(self, c: dict):
        super().__init__()
        widths, features, self.u = c["widths"], c["time_features"], c["unshuffle"]
        self.features = features
        squares = self.u * self.u

        def blocks(width, count):
            return nn.ModuleList(BridgeBlock(width, features) for _ in range(count))

        self.time = nn.Linear(features, features)
        self.stem = nn.Conv2d(c["in_channels"] * squares, widths[0], 3, padding=1)
        levels = range(len(widths) - 1)
        self.encoder = nn.ModuleList(blocks(widths[i], c["encoder"][i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels)
        self.middle = blocks(widths[-1], c["middle"])
        self.up = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in levels)
        self.decoder = nn.ModuleList(blocks(widths[i], c["decoder"][i]) for i in levels)
        self.head = nn.Conv2d(widths[0], 3 * squares, 3, padding=1)

    def forward(self, x, time):
        """x: (B, C, H, W); time: sinusoids of the noise level, (B, time_features)."""
        time = F.silu(self.time(time))
        x = self.stem(F.pixel_unshuffle(x, self.u))
        kept = []
        for blocks, down in zip(self.encoder, self.down):
            for block in blocks:
                x = block(x, time)
            kept.append(x)
            x = down(x)
        for block in self.middle:
            x = block(x, time)
        for up, blocks in zip(reversed(self.up), reversed(self.decoder)):
            x = up(x) + kept.pop()
            for block in blocks:
                x = block(x, time)
        return F.pixel_shuffle(self.head(x), self.u)

    def load_tensors(self, tensors: dict):
        """The files hold transposed convolutions as (cout, cin, 2, 2); PyTorch wants (cin, cout, 2, 2)."""
        turned = {k: v.transpose(0, 1) if k.startswith("up.") and v.dim() == 4 else v for k, v in tensors.items()}
        self.load_state_dict(turned)


class AdmBlock(nn.Module):
    """Residual block with scale and shift after the second norm; `resample` is "up", "down" or None."""

    def __init__(self, cin, cout, time, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.ModuleDict({"0": nn.GroupNorm(32, cin), "2": nn.Conv2d(cin, cout, 3, padding=1)})
        self.emb_layers = nn.ModuleDict({"1": nn.Linear(time, 2 * cout)})
        self.out_layers = nn.ModuleDict({"0": nn.GroupNorm(32, cout), "3": nn.Conv2d(cout, cout, 3, padding=1)})
        self.skip_connection = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def resampled(self, x):
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.resample == "down" else x

    def forward(self, x, time):
        h = self.resampled(F.silu(self.in_layers["0"](x)))
        x = self.resampled(x)
        h = self.in_layers["2"](h)
        scale, shift = self.emb_layers["1"](F.silu(time))[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers["0"](h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers["3"](F.silu(h))


class AdmAttention(nn.Module):
    """Self-attention over all positions, heads outermost in the 3C channels of `qkv`."""

    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, _time):
        b, c, h, w = x.shape
        flat = x.reshape(b, c, h * w)
        qkv = self.qkv(self.norm(flat)).reshape(b, self.heads, 3, c // self.heads, h * w)
        q, k, v = (part.transpose(-1, -2) for part in qkv.unbind(2))
        out = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h * w)
        return (flat + self.proj_out(out)).reshape(b, c, h, w)


class Adm(nn.Module):
    """The `adm` family as released at 256×256: residual resampling, legacy order of attention."""

    def __init__(self, c: dict):
        super().__init__()
        base, mult = c["model_channels"], c["channel_mult"]
        self.features, time = base, 4 * base
        self.time_embed = nn.ModuleDict({"0": nn.Linear(base, time), "2": nn.Linear(time, time)})

        def block(cin, cout, ds, resample=None):
            parts = [AdmBlock(cin, cout, time, resample)]
            if resample is None and ds in c["attention_resolutions"]:
                parts.append(AdmAttention(cout, c["num_head_channels"]))
            return nn.ModuleList(parts)

        width = int(base * mult[0])
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(c["in_channels"], width, 3, padding=1)])])
        kept, ds = [width], 1
        for level, m in enumerate(mult):
            for _ in range(c["num_res_blocks"]):
                self.input_blocks.append(block(width, int(base * m), ds))
                width = int(base * m)
                kept.append(width)
            if level + 1 < len(mult):
                self.input_blocks.append(block(width, width, ds, "down"))
                kept.append(width)
                ds *= 2
        self.middle_block = nn.ModuleList(
            [AdmBlock(width, width, time), AdmAttention(width, c["num_head_channels"]), AdmBlock(width, width, time)]
        )
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(c["num_res_blocks"] + 1):
                parts = block(width + kept.pop(), int(base * m), ds)
                width = int(base * m)
                if level and i == c["num_res_blocks"]:
                    parts.append(AdmBlock(width, width, time, "up"))
                    ds //= 2
                self.output_blocks.append(parts)
        self.out = nn.ModuleDict({"0": nn.GroupNorm(32, width), "2": nn.Conv2d(width, c["out_channels"], 3, padding=1)})

    def forward(self, x, time):
        time = self.time_embed["2"](F.silu(self.time_embed["0"](time)))
        kept = []
        for parts in self.input_blocks:
            for part in parts:
                x = part(x) if isinstance(part, nn.Conv2d) else part(x, time)
            kept.append(x)
        for part in self.middle_block:
            x = part(x, time)
        for parts in self.output_blocks:
            x = torch.cat([x, kept.pop()], dim=1)
            for part in parts:
                x = part(x, time)
        return self.out["2"](F.silu(self.out["0"](x)))

    def load_tensors(self, tensors: dict):
        self.load_state_dict(tensors)


FAMILIES = {"bridge": Bridge, "adm": Adm}


class Restorer(nn.Module):
    """One step from the degraded end: x1 − σ·net(x1), clamped to [-1, 1], the noise level a constant."""

    def __init__(self, network: nn.Module, sigma: float, level: float):
        super().__init__()
        self.network, self.sigma = network, sigma
        self.register_buffer("time", sinusoids(level, network.features)[None])

    def forward(self, x):
        net = self.network(x.to(self.time.dtype), self.time).to(x.dtype)
        return (x - self.sigma * net).clamp(-1, 1)


def degraded_end(bridge: dict) -> tuple[float, float]:
    """σ and noise level of the last step of a [bridge] table's schedule."""
    n = bridge.get("interval", 1000)
    a, b = math.sqrt(1e-4), math.sqrt(bridge.get("beta_max", 0.3) / n)
    ramp = [(a + (b - a) / (n - 1) * i) ** 2 for i in range(n // 2)]
    return math.sqrt(2 * sum(ramp)), bridge.get("t_end", 1.0) * n


def build(config: dict) -> nn.Module:
    """The network of a parsed config.toml, untrained."""
    return FAMILIES[config["network"]["family"]](config["network"]).eval()


def open_preset(folder: Path) -> Restorer:
    """The one-step restorer of a preset's folder."""
    config = tomllib.loads((folder / "config.toml").read_text())
    network = build(config)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    network.load_tensors({name: value.float() for name, value in tensors.items()})
    return Restorer(network, *degraded_end(config["bridge"])).eval()
