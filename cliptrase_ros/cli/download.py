"""Download the weights of a model from the hub into a file, for machines without a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..settings import Settings
from . import arguments
from .console import Console

USAGE = '[--model NAME] [--weights TAG] [-o OUT]'
EXAMPLES = """\
examples:
  cliptrase download --out weights/
  cliptrase download --model ViT-L-14-quickgelu --weights openai --out weights/
  cliptrase segment a.jpg --words floor --weights weights/ViT-B-16-quickgelu-openai.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--model', default=Settings.model, help='open_clip model name')
    parser.add_argument(
        '--weights', default=Settings.weights, help='open_clip weights tag, or a file'
    )
    arguments.add_out(parser, Path('.'), 'output folder (default: the current folder)')
    arguments.add_json(parser)


def run(options: argparse.Namespace) -> None:
    from ..model.weights import download

    path, digest = download(options.model, options.weights, options.out)
    Console(options.json).result(
        f"{path}\nuse it with: weights '{path}', weights_sha256 '{digest}'",
        weights=str(path),
        weights_sha256=digest,
        model=options.model,
    )
