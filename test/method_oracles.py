"""The methods, written naively from their equations: float64, loops, one image.

Each takes an `oracle.Oracle` and a normalised image [3, h, w], and returns the joint-space tokens
[1 + N, E]. The code is slow and simple on purpose, and shares nothing with the package.
"""

import numpy as np
from oracle import softmax


def earlier(reference, image):
    """Return (outputs of blocks 0 .. L - 1, grid); output 0 is the embedding."""
    x, grid = reference.embed(image)
    outputs = [x]
    for block in range(reference.layers - 1):
        outputs.append(reference.block(block, outputs[-1], ['qk']))
    return outputs, grid


def project(reference, x):
    return reference.norm('ln_post', x) @ reference.w['proj']


def attend(reference, x, weights_of):
    """Return the attention branch of the last block; `weights_of(q, k, v)` returns the weights
    [N, N] of a head."""
    last = reference.layers - 1
    heads = zip(*reference.qkv(last, x), strict=True)
    return reference.out(last, [weights_of(q, k, v) @ v for q, k, v in heads])


def rows(logits):
    return np.array([softmax(row) for row in logits])


def dots(a, b):
    return a @ b.T / np.sqrt(a.shape[1])


def omega(grid, sigma):
    count = grid[0] * grid[1]
    table = np.zeros((1 + count, 1 + count))
    for i in range(count):
        for j in range(count):
            down, right = i // grid[1] - j // grid[1], i % grid[1] - j % grid[1]
            table[1 + i, 1 + j] = np.exp(-(down**2 + right**2) / (2 * sigma**2))
    return table


def maskclip(reference, image):
    [*_, x], _ = earlier(reference, image)
    x = x + attend(reference, x, lambda q, k, v: np.eye(len(v)))
    return project(reference, x + reference.feed_forward(reference.layers - 1, x))


def sclip(reference, image):
    [*_, x], _ = earlier(reference, image)
    x = x + attend(reference, x, lambda q, k, v: rows(dots(q, q)) + rows(dots(k, k)))
    return project(reference, x + reference.feed_forward(reference.layers - 1, x))


def cliptrase_paper(reference, image):
    [*_, x], _ = earlier(reference, image)

    def weights(q, k, v):
        return rows((dots(q, q) + dots(k, k) + dots(v, v)) / 3)

    x = x + attend(reference, x, weights)
    return project(reference, x + reference.feed_forward(reference.layers - 1, x))


def clearclip(reference, image):
    [*_, x], _ = earlier(reference, image)
    return project(reference, attend(reference, x, lambda q, k, v: rows(dots(q, q))))


def key_key(reference, image):
    [*_, x], _ = earlier(reference, image)
    return project(reference, attend(reference, x, lambda q, k, v: rows(dots(k, k))))


def naclip(reference, image, sigma=5.0):
    [*_, x], grid = earlier(reference, image)
    prior = omega(grid, sigma)
    return project(reference, attend(reference, x, lambda q, k, v: rows(dots(k, k) + prior)))


def query_key(reference, block, x):
    """Return the attention weights of a block (numbered from 0) on its input x: [N, N] per head."""
    q, k, _ = reference.qkv(block, x)
    return [rows(dots(a, b)) for a, b in zip(q, k, strict=True)]


def resclip(reference, image, blocks, share=0.4, gain=2.0, sigma=5.0, semantics=None):
    """Return the tokens of ResCLIP. `blocks` are numbered from 1; `semantics` is
    (S [1 + N, 1 + N], lambda, tau) of SFR."""
    outputs, grid = earlier(reference, image)
    maps = [query_key(reference, number - 1, outputs[number - 1]) for number in blocks]
    middle = iter([sum(head) / len(maps) for head in zip(*maps, strict=True)])
    prior = omega(grid, sigma)

    def weights(q, k, v):
        logits = dots(k, k)
        if semantics:
            table, feedback_share, feedback_gain = semantics
            logits = (1 - feedback_share) * logits + feedback_share * table
            logits = feedback_gain * logits
        return gain * ((1 - share) * rows(logits + prior) + share * next(middle))

    return project(reference, attend(reference, outputs[-1], weights))


def semantic_map(labels):
    """Return SFR's S [1 + N, 1 + N] for patch labels [rows, cols]."""
    height, width = labels.shape
    count, farthest = labels.size, max(height, width) - 1
    table = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            start, end = np.array(divmod(i, width)), np.array(divmod(j, width))
            if labels[tuple(start)] != labels[tuple(end)]:
                continue
            steps, table[i, j] = abs(start - end).max(), 1
            for k in range(steps + 1):
                at = np.round(start * (1 - k / farthest) + end * (k / farthest)).astype(int)
                if labels[tuple(at)] != labels[tuple(start)]:
                    table[i, j] = np.exp(-steps / farthest)
    reach = (min(31, count) - 1) // 2
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / 50)
    kernel /= kernel.sum()
    blurred = np.array([np.convolve(row, kernel, 'full')[reach : reach + count] for row in table])
    result = np.zeros((1 + count, 1 + count))
    result[1:, 1:] = blurred / (blurred.sum(1, keepdims=True) + 1e-8)
    return result / result.max()


def gclip(reference, image, first, suppression=True):
    """Return the tokens of GCLIP. `first` is the first of the two fused blocks, numbered from 1."""
    x, _ = reference.embed(image)
    maps = []
    for block in range(reference.layers - 1):
        if block in (first - 1, first):
            maps.append(np.mean(query_key(reference, block, x), 0))
        x = reference.block(block, x, ['qk'], suppression and block >= first)
    last = reference.layers - 1
    q, _, _ = reference.qkv(last, x)
    maps.append(np.mean([rows(dots(a, a)) for a in q], 0))
    fused = sum(maps) / 3
    return project(reference, attend(reference, x, lambda q, k, v: fused))


def sc_clip(reference, image, middle, low, levels, paper_form=False):
    """Return only the patch tokens [N, E] of SC-CLIP. Blocks are numbered from 1."""
    outputs, grid = earlier(reference, image)
    cls, patches = outputs[-1][0], outputs[-1][1:]
    odd = anomalies(patches)
    patches = repair(patches, odd, grid)
    steering = repair(outputs[middle][1:], odd, grid)
    similar, fine = cosines(steering), averaging(cosines(outputs[low][1:]))

    def weights(q, k, v):
        if paper_form:
            return rows(dots(k, k)) + rows(similar)
        shifted = 3 * (similar - similar.mean())
        shifted[shifted < 0] = -np.inf
        return (rows(shifted) + rows(dots(k, k))) / 2

    first = attend(reference, averaging(similar) @ patches, weights) + 0.3 * cls
    total = sum(outputs[number] for number in levels)
    second = attend(reference, total[1:], weights) + 0.3 * total[0]
    return project(reference, fine @ first + fine @ second)


def cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def averaging(similar):
    kept = np.where(similar < 0.4, 0, similar)
    return kept / (kept.sum(1, keepdims=True) + 1e-6)


def outlier_factors(x, neighbours=30):
    count = min(neighbours, len(x) - 1)
    distance = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    nearest = [[j for j in np.argsort(row) if j != i][:count] for i, row in enumerate(distance)]
    radius = [distance[i, near[-1]] for i, near in enumerate(nearest)]
    return np.array([np.mean([radius[i] / radius[j] for j in nearest[i]]) for i in range(len(x))])


def anomalies(x):
    factors = outlier_factors(x)
    return factors > np.quantile(factors, 0.95)


def repair(x, odd, grid):
    out = x.copy()
    for i in np.flatnonzero(odd):
        row, col = divmod(i, grid[1])
        around = [
            r * grid[1] + c
            for r in range(max(0, row - 1), min(grid[0], row + 2))
            for c in range(max(0, col - 1), min(grid[1], col + 2))
        ]
        good = [n for n in around if not odd[n]]
        if good:
            out[i] = np.mean([x[n] for n in good], 0)
    return out
