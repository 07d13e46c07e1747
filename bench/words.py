#!/usr/bin/env python3
"""The cost of new words and of known words.

bench/words.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--words 20]
               [--repeats 10]

The lines are: the sentences of a new word, with and without the tokens after their ends; a
vocabulary of known words, whose embeddings are in memory; and the fingerprint of the weights, which
is computed once per start. All lines are measured in turn in one process. Ratios are to the word
with 80 templates at whole context: the median over the turns.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed, timing
from cliptrase_ros.model.text import TextEncoder
from cliptrase_ros.words.templates import TEMPLATES


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    arguments.add_model(parser)
    parser.add_argument('--words', type=arguments.positive, default=20)
    parser.add_argument('--repeats', type=arguments.positive, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        segmenter = speed.load_printed(options, cache_dir=folder)
        device = segmenter.backbone.device
        times = timing.timed(work(segmenter, options.words), options.repeats, device)
    timing.print_header('templates', 'what', 'p50 ms', 'p95 ms', 'of whole context')
    for (lead, name), values in times.items():
        timing.print_rows(lead, {name: values}, times['80', 'new word, whole context'], digits=4)


def work(segmenter, count):
    """Return {(templates, what is measured): function}."""
    text = segmenter.backbone.text
    whole = TextEncoder(text._model, text._tokenizer)
    whole.cuts_context = False
    eighty, seven = (
        [template.format('trash can') for template in TEMPLATES[name]]
        for name in ('imagenet80', 'imagenet7')
    )
    known = [f'thing number {n}' for n in range(count)]
    return {
        ('80', 'new word, whole context'): lambda: whole.encode(eighty),
        ('80', 'new word'): lambda: text.encode(eighty),
        ('7', 'new word, whole context'): lambda: whole.encode(seven),
        ('7', 'new word'): lambda: text.encode(seven),
        ('80', f'{count} known words'): lambda: segmenter.vocabulary(known),
        ('', 'fingerprint'): lambda: TextEncoder(text._model, text._tokenizer).fingerprint,
    }


if __name__ == '__main__':
    main()
