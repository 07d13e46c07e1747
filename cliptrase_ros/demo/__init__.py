"""A small simulated world with a small CLIP of its own: no hub, no camera, no GPU, no ROS here.

The model `cliptrase-demo` knows the words of this world and no others; nothing measured with it
says anything of the real CLIP.
"""

# The settings that differ from the engine's defaults: the tower learned from small crops and sees
# best through small windows; regions over the whole picture merge too much for it.
SETTINGS = {
    'model': 'cliptrase-demo',
    'weights': 'demo',
    'regions': 'none',
    'input_size': 240,
    'window_px': 64,
    'window_stride_px': 32,
    'prompt_templates': 'photo',
}
