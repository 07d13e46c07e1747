"""CLIPtrase, written naively from its equations: float64, loops, scikit-learn and SciPy.

The code is slow and simple on purpose, and shares nothing with the package. Shapes are as in the
package.
"""

import numpy as np
from scipy.ndimage import median_filter
from sklearn.cluster import DBSCAN


def relative(got, expected):
    """Return the relative error of `got`."""
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def cubic(t, a=-0.75):
    """Return Keys' kernel at t, with PyTorch's a."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resize_axis(table, target, scale, kernel, reach):
    """Resample axis 0 to `target` samples `1 / scale` apart, borders repeated."""
    out = np.zeros((target, *table.shape[1:]))
    for i in range(target):
        at = (i + 0.5) / scale - 0.5
        if reach == 1:
            at = max(at, 0.0)
        base = int(np.floor(at))
        for j in range(base - reach + 1, base + reach + 1):
            out[i] += kernel(at - j) * table[min(max(j, 0), len(table) - 1)]
    return out


def bilinear(image, size):
    """Resize [h, w] to `size`."""

    def tent(t):
        return max(0.0, 1 - abs(t))

    for axis in (0, 1):
        moved = np.moveaxis(image, axis, 0)
        moved = resize_axis(moved, size[axis], size[axis] / image.shape[axis], tent, 1)
        image = np.moveaxis(moved, 0, axis)
    return image


class Oracle:
    """The tower of an open_clip VisionTransformer with QuickGELU, from its state dict."""

    def __init__(self, visual, heads, patch):
        self.w = {k: v.detach().double().numpy() for k, v in visual.state_dict().items()}
        self.heads, self.patch = heads, patch
        self.layers = len(visual.transformer.resblocks)
        self.trained = visual.grid_size

    def embed(self, image):
        """Return (tokens, grid) of a normalised image [3, h, w]."""
        p, kernel = self.patch, self.w['conv1.weight']
        rows, cols = image.shape[1] // p, image.shape[2] // p
        tokens = [self.w['class_embedding']]
        for r in range(rows):
            for c in range(cols):
                area = image[:, r * p : (r + 1) * p, c * p : (c + 1) * p]
                tokens.append((kernel * area).sum((1, 2, 3)))
        x = np.array(tokens) + self.positions((rows, cols))
        return self.norm('ln_pre', x), (rows, cols)

    def positions(self, grid):
        table = self.w['positional_embedding']
        if grid == self.trained:
            return table
        patches = table[1:].reshape(*self.trained, -1)
        for axis in (0, 1):
            moved = np.moveaxis(patches, axis, 0)
            scale = (grid[axis] + 0.1) / self.trained[axis]
            patches = np.moveaxis(resize_axis(moved, grid[axis], scale, cubic, 2), 0, axis)
        return np.concatenate([table[:1], patches.reshape(-1, table.shape[1])])

    def norm(self, name, x):
        return layer_norm(x, self.w[f'{name}.weight'], self.w[f'{name}.bias'])

    def qkv(self, block, x):
        """Return q, k and v: three lists of heads, each [N, C]."""
        name = f'transformer.resblocks.{block}'
        weight, bias = self.w[f'{name}.attn.in_proj_weight'], self.w[f'{name}.attn.in_proj_bias']
        projected = self.norm(f'{name}.ln_1', x) @ weight.T + bias
        return [np.split(part, self.heads, 1) for part in np.split(projected, 3, 1)]

    def out(self, block, heads):
        name = f'transformer.resblocks.{block}.attn.out_proj'
        return np.concatenate(heads, 1) @ self.w[f'{name}.weight'].T + self.w[f'{name}.bias']

    def feed_forward(self, block, x, suppressed=False):
        """Return the output of the feed-forward branch.

        Args:
            suppressed: scale the row of the output weights with the largest norm to the mean norm
                of the others.
        """
        name = f'transformer.resblocks.{block}'
        weight = self.w[f'{name}.mlp.c_proj.weight'].copy()
        if suppressed:
            norms = np.sqrt((weight**2).sum(1))
            loudest = norms.argmax()
            weight[loudest] *= np.delete(norms, loudest).mean() / norms[loudest]
        hidden = self.norm(f'{name}.ln_2', x) @ self.w[f'{name}.mlp.c_fc.weight'].T
        hidden = quick_gelu(hidden + self.w[f'{name}.mlp.c_fc.bias'])
        return hidden @ weight.T + self.w[f'{name}.mlp.c_proj.bias']

    def block(self, block, x, pairs, suppressed=False):
        """Run one block whose attention is the sum of softmax(a b^T) over pairs such as 'qk'."""
        q, k, v = self.qkv(block, x)
        of = {'q': q, 'k': k, 'v': v}
        mixed = []
        for h in range(self.heads):
            total = np.zeros((len(x), len(x)))
            for a, b in pairs:
                left, right = of[a][h], of[b][h]
                for i in range(len(x)):
                    total[i] += softmax(right @ left[i] / np.sqrt(left.shape[1]))
            mixed.append(total @ v[h])
        x = x + self.out(block, mixed)
        return x + self.feed_forward(block, x, suppressed)

    def correlation(self, block, x):
        """Return the cosines between tokens, averaged over heads and over q, k, v."""
        total = np.zeros((len(x), len(x)))
        for part in self.qkv(block, x):
            for head in part:
                for i in range(len(x)):
                    for j in range(len(x)):
                        lengths = np.linalg.norm(head[i]) * np.linalg.norm(head[j])
                        total[i, j] += head[i] @ head[j] / lengths
        return total / (3 * self.heads)

    def run(self, image, pairs):
        """Return (joint-space tokens, correlation, grid). The pairs ['qk'] give CLIP, and
        ['qq', 'kk', 'vv'] give CLIPtrase."""
        x, grid = self.embed(image)
        for block in range(self.layers - 2):
            x = self.block(block, x, ['qk'])
        similar = self.correlation(self.layers - 2, x)
        x = self.block(self.layers - 2, x, ['qk'])
        x = self.block(self.layers - 1, x, pairs)
        return self.norm('ln_post', x) @ self.w['proj'], similar, grid


def affinity(correlation):
    return np.maximum(correlation[1:, 1:] - correlation[0, 1:], 0)


def cluster(rows, eps, min_samples):
    return DBSCAN(eps=eps, min_samples=min_samples).fit_predict(rows)


def region_of_pixels(rows, labels, grid, size):
    """Return the region of each pixel, or None if all patches are noise."""
    maps = []
    for number in range(labels.max() + 1):
        mean = rows[labels == number].mean(0).reshape(grid)
        enlarged = bilinear(mean, (4 * grid[0], 4 * grid[1]))
        maps.append(bilinear(median_filter(enlarged, size=7), size))
    return np.array(maps).argmax(0) if maps else None


def vote(predicted, regions):
    """Give every region its most frequent label."""
    result = predicted.copy()
    for number in np.unique(regions):
        values, counts = np.unique(predicted[regions == number], return_counts=True)
        result[regions == number] = values[counts.argmax()]
    return result


def scores(tokens, text, grid, size, cls_weighting=False):
    """Return bilinear word scores [Q, H, W] of the joint-space tokens, times 100."""
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    logits = 100 * unit[1:] @ text.T
    full = np.array([bilinear(column.reshape(grid), size) for column in logits.T])
    return full * (100 * text @ unit[0])[:, None, None] if cls_weighting else full


def neighbourhood(y, x, shape, distance):
    """Yield the 8 places around a pixel at a distance; places outside are moved to the border."""
    for dy in (-distance, 0, distance):
        for dx in (-distance, 0, distance):
            if dy or dx:
                yield min(max(y + dy, 0), shape[0] - 1), min(max(x + dx, 0), shape[1] - 1)


def pamr(maps, image, steps, dilations):
    """Refine maps [M, H, W] by PAMR along an image [3, H, W]."""
    shape = image.shape[1:]
    for _ in range(steps):
        result = np.zeros(maps.shape)
        for y, x in np.ndindex(shape):
            places = [at for d in dilations for at in neighbourhood(y, x, shape, d)]
            around = np.array([image[:, v, u] for v, u in places])
            centre = image[:, y, x]
            both = np.concatenate([around, [centre] * len(dilations)])
            scale = 1e-8 + 0.1 * both.std(0, ddof=1)
            weights = softmax(-(np.abs(around - centre) / scale).mean(1))
            for weight, (v, u) in zip(weights, places, strict=True):
                result[:, y, x] += weight * maps[:, v, u]
        maps = result
    return maps


def guided(scores, guide, radius, epsilon):
    """Return (a [3, h, w], b [h, w]) of the guided filter of scores [h, w] with a colour guide
    [3, h, w]."""
    shape = scores.shape
    slopes, offsets = np.zeros((3, *shape)), np.zeros(shape)

    def window(y, x):
        top, left = max(0, y - radius), max(0, x - radius)
        return slice(top, y + radius + 1), slice(left, x + radius + 1)

    for y, x in np.ndindex(shape):
        colors = guide[(slice(None), *window(y, x))].reshape(3, -1)
        values = scores[window(y, x)].ravel()
        own = np.cov(colors, bias=True) + epsilon * np.eye(3)
        shared = ((colors - colors.mean(1, keepdims=True)) * (values - values.mean())).mean(1)
        slopes[:, y, x] = np.linalg.solve(own, shared)
        offsets[y, x] = values.mean() - slopes[:, y, x] @ colors.mean(1)
    mean_slopes, mean_offsets = np.zeros((3, *shape)), np.zeros(shape)
    for y, x in np.ndindex(shape):
        mean_slopes[:, y, x] = slopes[(slice(None), *window(y, x))].mean((1, 2))
        mean_offsets[y, x] = offsets[window(y, x)].mean()
    return mean_slopes, mean_offsets
