"""Weights of one tiny model in the forms that people have."""

import warnings

import open_clip
import torch
from open_clip.model import convert_weights_to_fp16

from cliptrase_ros.model import weights

MODEL = 'cliptrase-tiny'


def half_model():
    """Return the tiny model as OpenAI publishes models: products in float16, the rest float32.

    All weights are numbers that float16 has. They differ from those of 'random'.
    """
    model = weights.load_model(MODEL, 'random')[0].eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
            parameter.copy_(parameter.half())
    convert_weights_to_fp16(model)
    return model


def openai_numbers():
    """Return the numbers that OpenAI's archives hold beside the weights."""
    named = {'input_resolution': 224, 'context_length': 77, 'vocab_size': 49408}
    return {name: torch.tensor(value) for name, value in named.items()}


def save_torchscript(model, path, numbers=()):
    """Save a TorchScript archive, with the numbers as buffers."""
    for name, value in dict(numbers).items():
        # The model has a context_length already.
        vars(model).pop(name, None)
        model.register_buffer(name, value)
    image = torch.ones(1, 3, *model.visual.image_size, dtype=model.visual.conv1.weight.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch.jit is deprecated
        torch.jit.trace_module(model, {'encode_image': image}, check_trace=False).save(path)


def transformers_config(**changes):
    from transformers import CLIPConfig

    text = {'hidden_size': 64, 'intermediate_size': 256, 'num_hidden_layers': 2}
    vision = {'hidden_size': 128, 'intermediate_size': 512, 'num_hidden_layers': 12}
    return CLIPConfig(
        text_config={**text, 'num_attention_heads': 1, 'projection_dim': 64, **changes},
        vision_config={
            **vision,
            **{'num_attention_heads': 2, 'patch_size': 16, 'projection_dim': 64},
            **changes,
        },
        projection_dim=64,
    )


def to_transformers(state):
    """Return a state dict of open_clip under the names of transformers, slice by slice."""
    result = {'logit_scale': state['logit_scale']}
    result['visual_projection.weight'] = state['visual.proj'].T
    result['text_projection.weight'] = state['text_projection'].T
    for own, tower in (('visual.', 'vision_model.'), ('', 'text_model.')):
        rows = state[f'{own}positional_embedding']
        result[f'{tower}embeddings.position_embedding.weight'] = rows
        layers = len([n for n in state if n.startswith(own + 'tr') and n.endswith('in_proj_bias')])
        for layer in range(layers):
            a, b = f'{own}transformer.resblocks.{layer}.', f'{tower}encoder.layers.{layer}.'
            for kind in ('weight', 'bias'):
                three = state[f'{a}attn.in_proj_{kind}'].chunk(3)
                for name, values in zip('qkv', three, strict=True):
                    result[f'{b}self_attn.{name}_proj.{kind}'] = values
                for x, y in (
                    ('attn.out_proj', 'self_attn.out_proj'),
                    *(('ln_1', 'layer_norm1'), ('ln_2', 'layer_norm2')),
                    *(('mlp.c_fc', 'mlp.fc1'), ('mlp.c_proj', 'mlp.fc2')),
                ):
                    result[f'{b}{y}.{kind}'] = state[f'{a}{x}.{kind}']
    for kind in ('weight', 'bias'):
        result[f'vision_model.pre_layrnorm.{kind}'] = state[f'visual.ln_pre.{kind}']
        result[f'vision_model.post_layernorm.{kind}'] = state[f'visual.ln_post.{kind}']
        result[f'text_model.final_layer_norm.{kind}'] = state[f'ln_final.{kind}']
    result['vision_model.embeddings.class_embedding'] = state['visual.class_embedding']
    result['vision_model.embeddings.patch_embedding.weight'] = state['visual.conv1.weight']
    result['text_model.embeddings.token_embedding.weight'] = state['token_embedding.weight']
    return {name: tensor.clone().contiguous() for name, tensor in result.items()}


def tiny_clip(**changes):
    """Return a CLIP of open_clip that is built in a moment, with other sizes than every model."""
    vision = {'image_size': 32, 'layers': 2, 'width': 64, 'head_width': 64, 'patch_size': 16}
    text = {'context_length': 8, 'vocab_size': 50, 'width': 64, 'heads': 1, 'layers': 1}
    return open_clip.CLIP(**{'embed_dim': 16, 'vision_cfg': vision, 'text_cfg': text, **changes})
