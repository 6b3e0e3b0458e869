# SPDX-License-Identifier: MIT OR Apache-2.0
"""Folders of presets to measure: those of weights/, and untrained ones from recipes."""

import tomllib
from pathlib import Path

import safetensors.torch
import torch

import networks

ADM_256 = """
[network]
family = "adm"
in_channels = 3
out_channels = 3
model_channels = 256
num_res_blocks = 2
channel_mult = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
attention_resolutions = [8, 16, 32]
conv_resample = true
num_heads = 4
num_head_channels = 64
use_scale_shift_norm = true
resblock_updown = true
use_new_attention_order = false
"""

HEAD = """name = "{name}"
task = "speed"
description = "Random weights."

[sampling]
sampler = "ot-ode"
nfe = 1

[bridge]
interval = 1000
beta_max = 0.3
ot_ode = true
"""


def network_table(recipe: Path) -> str:
    """The text of a recipe's table [network]."""
    lines, inside = [], False
    for line in recipe.read_text().splitlines():
        if line.startswith("["):
            inside = line.strip() == "[network]"
        if inside:
            lines.append(line)
    if not lines:
        raise SystemExit(f"{recipe}: no table [network]")
    return "\n".join(lines) + "\n"


def untrained(name: str, table: str, cache: Path) -> Path:
    """A preset's folder with random weights (seed 1) for a table [network]; made once."""
    folder = cache / name
    text = HEAD.format(name=name) + "\n" + table
    if (folder / "config.toml").exists() and (folder / "config.toml").read_text() == text:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    network = networks.build(tomllib.loads(text))
    tensors = {}
    for key, value in network.state_dict().items():
        # As PyTorch draws them, but blocks and head small: activations and output stay of the order of 1.
        small = key.endswith(("conv2.weight", "out_layers.3.weight", "proj_out.weight")) or key.startswith(("head.", "out.2."))
        value = value * 0.3 if small else value
        turned = key.startswith("up.") and value.dim() == 4
        tensors[key] = (value.transpose(0, 1) if turned else value).contiguous()
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    (folder / "card.md").write_text("Random weights, for measuring speed.\n")
    (folder / "config.toml").write_text(text)
    return folder


def find(name: str, root: Path, cache: Path) -> Path:
    """`adm-256`, a preset's folder, a preset in weights/ (newest version), or a recipe's network, e.g. `jpeg-nano`."""
    if name == "adm-256":
        return untrained(name, ADM_256, cache)
    if (Path(name) / "config.toml").exists():
        return Path(name)
    trained = sorted((root / "weights").glob(f"{name}-v*/config.toml"))
    if trained:
        return trained[-1].parent
    recipes = sorted((root / "engine" / "recipes").glob(f"{name}-v*.toml"))
    if not recipes:
        raise SystemExit(f"{name}: neither a preset's folder, nor in weights/, nor a recipe in engine/recipes/")
    return untrained(recipes[-1].stem, network_table(recipes[-1]), cache)
