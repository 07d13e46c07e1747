"""A small simulated world with its own small CLIP. It needs no hub, no camera, no GPU and no ROS.

The model `cliptrase-demo` knows only the words of this world. Results measured with it say nothing
about the real CLIP.
"""

# The settings that differ from the engine's defaults. The tower learned from small crops, so it
# works best with small windows. Regions over the whole picture merge too much for it.
SETTINGS = {
    'model': 'cliptrase-demo',
    'weights': 'demo',
    'regions': 'none',
    'input_size': 240,
    'sliding': {'window_px': 64},
    'prompt_templates': 'photo',
}
