"""A small simulated world with a small CLIP of its own: no hub, no camera, no GPU, no ROS here.

The model `cliptrase-demo` knows the words of this world and no others; nothing measured with it
says anything of the real CLIP.
"""

# The settings that differ from the engine's defaults: a small tower for small pictures.
SETTINGS = {
    'model': 'cliptrase-demo',
    'weights': 'demo',
    'input_size': 192,
    'prompt_templates': 'photo',
}
