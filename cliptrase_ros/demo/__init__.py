"""A small simulated world with its own small CLIP. It needs no hub, no camera, no GPU and no ROS.

The model `cliptrase-demo` knows only the words of this world. Results measured with it say nothing
about the real CLIP.
"""

# The settings that differ from the engine's defaults. The regions of the small model are smaller
# than those of CLIP.
SETTINGS = {
    'model': 'cliptrase-demo',
    'weights': 'demo',
    'input_size': 168,
    'cluster': {'eps': 1.2, 'min_samples': 2},
    'refine': 'pamr',
    'prompt_templates': 'photo',
}
