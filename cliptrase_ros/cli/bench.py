"""Print a Markdown table: the model's own encode_image, each stage of the segmenter and the whole,
measured in turn; ratios are to the first, turn by turn. Takes minutes on a CPU."""

from __future__ import annotations

from ..bench import add_arguments as add_arguments
from ..bench import run as run

USAGE = '[options]'
EXAMPLES = """\
examples:
  cliptrase bench
  cliptrase bench --precision fp32 bf16 --sizes 224 336 --words 20
"""
