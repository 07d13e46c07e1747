"""Small labelled sets in the folder layouts of the official sets."""

import numpy as np
from PIL import Image
from towers import picture

SIZE = (48, 64)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_indices(path, values, palette=True):
    """Save labels like the official sets: indices, usually with a palette of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette(np.random.default_rng(5).integers(0, 256, 768).astype(np.uint8).tobytes())
    image.save(path)


def stripes(values, size=SIZE):
    """Return [H, W] with the values side by side, in stripes of about equal width."""
    columns = np.arange(size[1]) * len(values) // size[1]
    return np.repeat(np.array(values)[columns][None], size[0], 0)


# {set: (path of a picture, path of its label, path of the list of names or None, names)}.
PATHS = {
    'voc20': (
        'JPEGImages/{}.jpg',
        'SegmentationClass/{}.png',
        'ImageSets/Segmentation/val.txt',
        ('2007_000032', '2007_000039'),
    ),
    'pc59': (
        'JPEGImages/{}.jpg',
        'SegmentationClassContext/{}.png',
        'ImageSets/SegmentationContext/val.txt',
        ('2008_000002', '2008_000003'),
    ),
    'coco_object': (
        'images/val2017/{}.jpg',
        'annotations/val2017/{}_instanceTrainIds.png',
        None,
        ('000000000139', '000000000285'),
    ),
    'coco_stuff': (
        'images/val2017/{}.jpg',
        'annotations/val2017/{}_labelTrainIds.png',
        None,
        ('000000000139', '000000000285'),
    ),
    'ade150': (
        'images/validation/{}.jpg',
        'annotations/validation/{}.png',
        None,
        ('ADE_val_00000001', 'ADE_val_00000002'),
    ),
    'cityscapes': (
        'leftImg8bit/val/{}_leftImg8bit.png',
        'gtFine/val/{}_gtFine_labelTrainIds.png',
        None,
        ('frankfurt/frankfurt_000000_000294', 'munster/munster_000000_000019'),
    ),
    'nyuv2': ('test/rgb/{}.png', 'test/labels_40/{}.png', None, ('0001', '0002')),
    'camvid': ('test/{}.png', 'testannot/{}.png', None, ('0001TP_008550', 'Seq05VD_f00000')),
    'folder': ('images/{}.png', 'labels/{}.png', None, ('a', 'b')),
}
PATHS['voc21'], PATHS['pc60'] = PATHS['voc20'], PATHS['pc59']


def build(root, name, labels, classes=('background', 'floor', 'mug=mug;cup')):
    """Write a set with a picture for each of the labels [H, W]; return the names."""
    image, label, listing, names = PATHS[name]
    names = [names[n] if n < len(names) else f'{names[1]}{n}' for n in range(len(labels))]
    for seed, (stem, values) in enumerate(zip(names, labels, strict=True)):
        save(root / image.format(stem), picture(*values.shape, seed))
        save_indices(root / label.format(stem), values)
    if listing:
        path = root / listing
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names) + '\n')
    if name == 'folder':
        (root / 'classes.txt').write_text('\n'.join(classes) + '\n')
    return names
