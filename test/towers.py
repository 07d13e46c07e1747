"""Small image towers with seeded random weights, and pictures for them."""

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer

TINY_HEADS, TINY_PATCH = 2, 8


def make_visual(seed=0, **changes):
    """Make a native open_clip tower: 4 blocks, 32 wide, 2 heads, patch 8, 4 x 4 trained grid."""
    options = {
        'image_size': 32,
        'patch_size': TINY_PATCH,
        'width': 32,
        'layers': 4,
        'heads': TINY_HEADS,
        'mlp_ratio': 4,
        'output_dim': 16,
        'act_layer': QuickGELU,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        visual = VisionTransformer(**{**options, **changes})
        # New biases and norms are 0 and 1. Change them, so that a forgotten one is noticed.
        for parameter in visual.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return visual.eval().requires_grad_(False)


def make_turned_visual():
    """Make the tower of `make_visual` for transposed images: rows and columns are swapped."""
    turned = make_visual()
    turned.conv1.weight.data = turned.conv1.weight.data.transpose(2, 3).contiguous()
    positions = turned.positional_embedding.data
    positions[1:] = positions[1:].view(4, 4, -1).transpose(0, 1).reshape(16, -1)
    return turned


def picture(height, width, seed=0):
    """Return [H, W, 3] uint8 with smooth blobs: some patches are similar and some differ."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode='bilinear')[0]
    noise = torch.from_numpy(rng.normal(0, 6, (3, height, width)))
    return (smooth + noise).clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)


def normalised(image, backbone):
    """Return an image [H, W, 3] uint8 normalised for the tower: [3, H, W] float64."""
    mean, std = (x.cpu().double().numpy() for x in (backbone.mean, backbone.std))
    return (np.moveaxis(image, -1, 0) / 255 - mean) / std
