#!/usr/bin/env python3
"""The speed of the segmenter compared with a plain CLIPtrase, written as it is usually run.

bench/plain.py [--model NAME] [--weights TAG|FILE|random] [--device D] [--words 20 150]
               [--precision fp32 auto] [--crops 224 336] [--whole 336] [--repeats 10]

The camera image has 640 x 480 pixels. --crops are crops of the cliptrase protocol, --whole is the
whole image; both give the short side in the tower. All parts of both pipelines are measured in
turn. The ratio is plain / segmenter, the median over the turns. The plain pipeline is always
float32 and returns no confidence.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import median_filter
from sklearn.cluster import DBSCAN
from torchvision.transforms.functional import normalize, to_tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from cliptrase_ros.cli import arguments
from cliptrase_ros.evaluation import speed, timing

CAMERA = (480, 640)


class Plain:
    """CLIPtrase (arXiv 2407.08268) made of the model's modules, PIL, scikit-learn, SciPy and loops.

    It shares no code with the package. Shapes: N = rows * cols patches, K words, R clusters.

    Args:
        visual: an open_clip VisionTransformer in float32.
        mean, std: three numbers each, for RGB in 0..1.
    """

    def __init__(self, visual, mean, std):
        self.visual, self.mean, self.std = visual, mean, std

    @torch.no_grad()
    def __call__(self, image, words, size):
        """Return labels [H, W], indices of `words`.

        Args:
            image: [H, W, 3] uint8.
            words: [K, E] of unit length.
            size: (height, width) of the image in the tower.
        """
        features, correlation, grid = self.encode(self.pixels(image, size))
        affinity = self.affinity(correlation)
        regions = self.regions(affinity, self.clusters(affinity), grid, image.shape[:2])
        labels = self.labels(features, words, grid, image.shape[:2])
        return labels if regions is None else self.vote(labels, regions)

    def pixels(self, image, size):
        """Return the normalised image [1, 3, *size]."""
        resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
        pixels = normalize(to_tensor(resized), self.mean, self.std)[None]
        return pixels.to(self.visual.conv1.weight.device)

    @torch.no_grad()
    def encode(self, pixels):
        """Return (unit features [N, E], correlation of tokens [1 + N, 1 + N], (rows, cols))."""
        visual = self.visual
        x = visual.conv1(pixels)
        grid = tuple(x.shape[-2:])
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = visual.ln_pre(x + self.positions(grid))
        *earlier, before, last = visual.transformer.resblocks
        for block in earlier:
            x = block(x)
        correlation = self.correlation(before, x)
        x = self.last(last, before(x))
        features = (visual.ln_post(x) @ visual.proj)[0, 1:]
        return F.normalize(features, dim=-1), correlation, grid

    def positions(self, grid):
        """Return position embeddings [1 + N, D]; the 0.1 is from DINO's code."""
        table, trained = self.visual.positional_embedding, self.visual.grid_size
        if grid == tuple(trained):
            return table
        patches = table[1:].reshape(1, *trained, -1).permute(0, 3, 1, 2)
        factors = [(n + 0.1) / m for n, m in zip(grid, trained, strict=True)]
        patches = F.interpolate(patches, scale_factor=factors, mode='bicubic')
        return torch.cat([table[:1], patches.flatten(2)[0].T])

    def heads(self, block, x):
        """Return queries, keys and values [3, 1, heads, 1 + N, C]."""
        attention = block.attn
        qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
        return qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def correlation(self, block, x):
        """Return the cosines of tokens, averaged over heads and over queries, keys, values."""
        total = 0
        for part in self.heads(block, x):
            unit = F.normalize(part, dim=-1)
            total = total + (unit @ unit.transpose(-2, -1)).mean(1)
        return total[0] / 3

    def last(self, block, x):
        """Run the block with the sum of three self-correlations as its attention."""
        q, k, v = self.heads(block, x)
        scale = q.shape[-1] ** -0.5
        weights = sum((scale * part @ part.transpose(-2, -1)).softmax(-1) for part in (q, k, v))
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + block.ls_1(block.attn.out_proj(mixed))
        return x + block.ls_2(block.mlp(block.ln_2(x)))

    def affinity(self, correlation):
        """Return the affinity [N, N] float32."""
        return (correlation[1:, 1:] - correlation[0, 1:]).clamp(min=0).cpu().numpy()

    def clusters(self, affinity):
        """Return the cluster of each patch [N]; -1 is noise."""
        count = len(affinity)
        published = {196: (0.7, 3), 441: (1.1, 7)}
        elsewhere = 0.05 * math.sqrt(count), max(3, round(0.0155 * count))
        eps, min_samples = published.get(count, elsewhere)
        return DBSCAN(eps=eps, min_samples=min_samples).fit_predict(affinity)

    def regions(self, affinity, clusters, grid, size):
        """Return the region of each pixel [*size], or None if all patches are noise."""
        maps = []
        for number in range(clusters.max() + 1):
            mean = torch.from_numpy(affinity[clusters == number].mean(0)).view(1, 1, *grid)
            enlarged = F.interpolate(mean, scale_factor=4, mode='bilinear')[0, 0].numpy()
            maps.append(torch.from_numpy(median_filter(enlarged, size=7, mode='reflect')))
        if not maps:
            return None
        return F.interpolate(torch.stack(maps)[None], size=size, mode='bilinear')[0].argmax(0)

    @torch.no_grad()
    def labels(self, features, words, grid, size):
        """Return the best word of each pixel [*size]."""
        logits = 100 * features @ words.T
        logits = logits.T.unflatten(1, grid)[None]
        scores = F.interpolate(logits, size=size, mode='bilinear')[0]
        return scores.softmax(0).argmax(0).cpu()

    def vote(self, labels, regions):
        """Give every region its most frequent label."""
        labels = labels.clone()
        for number in regions.unique():
            inside = regions == number
            labels[inside] = labels[inside].bincount().argmax()
        return labels


def plain_of(segmenter):
    """Return the plain pipeline with the model of a segmenter."""
    backbone = segmenter.backbone
    statistics = (x.flatten().tolist() for x in (backbone.mean, backbone.std))
    return Plain(backbone.visual, *statistics)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    arguments.add_model(parser)
    parser.add_argument('--words', type=arguments.positive, nargs='+', default=[20, 150])
    parser.add_argument('--precision', nargs='+', default=['fp32', 'auto'])
    parser.add_argument('--crops', type=arguments.positive, nargs='+', default=[224, 336])
    parser.add_argument('--whole', type=arguments.positive, nargs='+', default=[336])
    parser.add_argument('--repeats', type=arguments.positive, default=10)
    options = parser.parse_args()
    segmenter = speed.load_printed(options)
    columns = 'input', 'clusters', 'words', 'precision', 'part'
    timing.print_header(*columns, 'plain p50 / p95 ms', 'segmenter p50 / p95 ms', 'ratio')
    cases = [segmenter.replace(protocol='cliptrase', input_size=side) for side in options.crops]
    cases += [segmenter.replace(input_size=side) for side in options.whole]
    shares = [
        table(run, words, options.repeats)
        for case in cases
        for words in options.words
        for run in in_precisions(case, options.precision)
    ]
    print(f'\nPixels with equal labels: {100 * min(shares):.2f} % or more.')


def in_precisions(segmenter, precisions):
    """Return the segmenter in each precision, without duplicates (some are equal on a device)."""
    runs = [segmenter.replace(precision=precision) for precision in precisions]
    return {speed.precision_of(run): run for run in runs}.values()


def table(segmenter, count, repeats):
    """Print the rows of one case; return the share of pixels with equal labels."""
    image = segmenter.view(speed.scene(*CAMERA))
    encoded = segmenter.encode(image)
    size, clusters = encoded.working_size, int(encoded.clusters.max()) + 1
    words = speed.random_words(count, encoded.features.shape[-1])
    plain, ours = parts(plain_of(segmenter), image, words, size), own_parts(segmenter, image, count)
    device = segmenter.backbone.device
    work = {
        (part, who): calls[part] for part in plain for who, calls in (('p', plain), ('o', ours))
    }
    times = timing.timed(work, repeats, device)
    precision = speed.precision_of(segmenter)
    lead = f'{size[0]} x {size[1]} | {clusters} | {count} | {precision}'
    for part in plain:
        theirs, own = times[part, 'p'], times[part, 'o']
        quantiles = (np.percentile(x, (50, 95)) for x in (theirs, own))
        cells = lead, part, *(f'{p50:.1f} / {p95:.1f}' for p50, p95 in quantiles)
        print(f'| {" | ".join(cells)} | {timing.ratio(theirs, own):.3g} |', flush=True)
    return (plain['all']().numpy() + 1 == ours['all']().labels).mean()


def parts(plain, image, words, size):
    """Return {name: function} of the parts of the plain pipeline."""
    labels_size, words = image.shape[:2], words.embeddings.to(plain.visual.conv1.weight.device)
    pixels = plain.pixels(image, size)
    features, correlation, grid = plain.encode(pixels)
    affinity = plain.affinity(correlation)
    clusters = plain.clusters(affinity)
    regions = plain.regions(affinity, clusters, grid, labels_size)

    def label():
        labels = plain.labels(features, words, grid, labels_size)
        return labels if regions is None else plain.vote(labels, regions)

    return {
        'resize': lambda: plain.pixels(image, size),
        'tower': lambda: plain.encode(pixels),
        'DBSCAN': lambda: plain.clusters(affinity),
        'region maps': lambda: plain.regions(affinity, clusters, grid, labels_size),
        'scores and vote': label,
        'all': lambda: plain(image, words, size),
    }


def own_parts(segmenter, image, count):
    """Return {name: function} of the same parts of the segmenter."""
    resize, tower, dbscan, maps = speed.image_stages(segmenter, image).values()
    scores, labels, everything = speed.word_stages(segmenter, image, count).values()
    return {
        'resize': resize,
        'tower': tower,
        'DBSCAN': dbscan,
        'region maps': maps,
        'scores and vote': lambda: (scores(), labels()),
        'all': everything,
    }


if __name__ == '__main__':
    main()
