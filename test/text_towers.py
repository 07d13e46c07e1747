"""Small text towers with seeded random weights, and CLIP's own tokenizer."""

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

TOKENIZER = open_clip.get_tokenizer('ViT-B-32')
CONTEXT = 77
VISION = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=8, image_size=16)


def make_model(kind=CLIP, **changes):
    """Make a small model with random weights; `changes` change the configuration of its text
    tower."""
    options = {'width': 32, 'heads': 2, 'layers': 3, 'context_length': CONTEXT}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(16, VISION, CLIPTextCfg(**{**options, **changes}))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)
