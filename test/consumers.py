"""Models of consumers: the parts of their callbacks that can refuse or misread our messages.

They are written from the sources of these versions. The consumers themselves are not run here:

* semantic_segmentation_layer 1.0.0 (branch jazzy, and the same in main)
* nav2_costmap_2d 1.3.13 (Jazzy) and the PointCloud2Iterator of sensor_msgs
* isaac_ros_nvblox 4.3.0, its masks as in nvblox's release 3.0
* moveit_ros_perception 2.12.4 (Jazzy)

There are no transforms: all points stay in the frame of the camera.
"""

from __future__ import annotations

import math

import numpy as np


class Refused(Exception):
    """The consumer reports an error in the message and drops it."""


class Broken(Exception):
    """The consumer crashes, or reads beyond the message."""


# Point clouds


def iterate(cloud, name):
    """Return the values [N] float32 that a PointCloud2Iterator<float> reads.

    The iterator finds the field by its name and steps by point_step to the end of the data. It
    ignores datatype, byte order and row_step.
    """
    if len(cloud.data) % cloud.point_step:
        raise Broken('the steps go beyond the data')
    return _floats(cloud, name, 1)[:, 0]


def _floats(cloud, name, count):
    offsets = [field.offset for field in cloud.fields if field.name == name]
    if not offsets:
        raise Broken(f'field {name} does not exist')
    step = cloud.point_step
    data = np.asarray(memoryview(cloud.data))
    points = data[: len(data) // step * step].reshape(-1, step)
    return np.ascontiguousarray(points[:, offsets[0] : offsets[0] + 4 * count]).view('<f4')


# Nav2: semantic_segmentation_layer


def class_costs(label_info, wanted):
    """Return {id: max_cost}: LabelInfo joined with the layer's parameters {class name: max_cost}.

    Other names are ignored, and ids are cut to a byte.
    """
    named = [(c.class_id % 256, c.class_name) for c in label_info.class_map]
    return {number: wanted[name] for number, name in named if name in wanted}


def semantic_tiles(
    mask, confidence, cloud, costs, *, by_cost=True, nearest=0.3, farthest=5.0, resolution=0.05
):
    """Return {(i, j): (id, confidence)}: what one image adds to the tiles of the costmap.

    Args:
        costs: result of `class_costs`; None before the first LabelInfo.
        by_cost: use_cost_selection.
        nearest, farthest: min_obstacle_distance and max_obstacle_distance in metres.
        resolution: of the costmap in metres.
    """
    pixels = mask.width * mask.height
    if pixels != cloud.width * cloud.height:
        raise Refused('point cloud and segmentation have different sizes')
    if len(mask.data) < pixels:
        raise Refused('the segmentation has too few bytes')
    if costs is None:
        raise Broken('no LabelInfo yet: a null pointer is followed')
    if not costs:
        raise Refused('the class map is empty')
    x, y, z = (iterate(cloud, name) for name in 'xyz')
    if len(confidence.data) < pixels or len(z) < pixels:
        raise Broken('reads beyond the confidence or the cloud')
    ids, sure = mask.data, confidence.data  # one byte per pixel; encoding and step are ignored
    chosen = {}
    for i in range(pixels):
        distance = math.hypot(x[i], y[i], z[i])
        if not math.isfinite(z[i]) or not nearest < distance < farthest:
            continue
        tile = math.floor(x[i] / resolution), math.floor(y[i] / resolution)
        before = chosen.setdefault(tile, i)
        if by_cost:
            better = costs.get(ids[i], 0) > costs.get(ids[before], 0)
        else:
            better = sure[i] > sure[before]
        if better:
            chosen[tile] = i
    return {tile: (ids[i], sure[i]) for tile, i in chosen.items() if ids[i] in costs}


def tile_costs(kind, stamps_s, updates_s, decay_s, latency_s=0.0, confidence=255):
    """Return the cost of a tile after each update of the costmap; None before the first.

    Args:
        kind: {parameter: value} of the class type that is seen there.
        stamps_s: stamps of the observations; each arrives latency_s later.
        updates_s: times of the updates.
        decay_s: tile_map_decay_time.
        confidence: of each observation.
    """
    cost, costs = None, []
    for now in updates_s:
        seen = [s for s in stamps_s if s + latency_s <= now and now - s <= decay_s]
        if seen:  # a tile without observations is skipped, so it keeps its cost
            enough = len(seen) >= kind['samples_to_max_cost']
            sure = confidence > kind['mark_confidence']
            cost = kind['max_cost'] if enough and sure else kind['base_cost']
        costs.append(cost)
    return costs


# Nav2: obstacle and voxel layer


def obstacles(cloud, *, low=0.0, high=0.0, up=(0.0, 0.0, 1.0), farthest=2.5):
    """Return the points [N, 3] float32 that the layer marks.

    Args:
        low, high: min_obstacle_height and max_obstacle_height of the source, with their defaults.
        up: the up direction of the costmap, in the frame of the cloud.
        farthest: obstacle_max_range in metres.
    """
    points = np.stack([iterate(cloud, name) for name in 'xyz'], axis=1)
    heights = points @ np.float32(up)
    points = points[(heights >= low) & (heights <= high)]  # drops NaN, too
    return points[np.linalg.norm(points, axis=1) < farthest]


def observations(stamps_s, now_s, persistence_s):
    """Return the stamps of the clouds that the layer uses now; they arrived in the given order."""
    if not persistence_s:
        return stamps_s[-1:]
    counting = []
    for stamp in reversed(stamps_s):
        if now_s - stamp > persistence_s:
            break
        counting.append(stamp)
    return counting


# message_filters


def exact_time(events, topics, queue=10):
    """Return the tuples of messages that ExactTime passes on.

    Args:
        events: (topic, message) in order of arrival.
        topics: the topics that are synchronised.
        queue: the largest number of incomplete tuples.
    """
    waiting, complete = {}, []
    for topic, message in events:
        stamp = message.header.stamp.sec, message.header.stamp.nanosec
        waiting.setdefault(stamp, {})[topic] = message
        if len(waiting[stamp]) == len(topics):
            complete.append(tuple(waiting[stamp][t] for t in topics))
            waiting = {s: messages for s, messages in waiting.items() if s > stamp}
        if len(waiting) > queue:
            del waiting[min(waiting)]
    return complete


# nvblox


def nvblox_depth(image, info):
    """Return the depth [H, W] float32 in metres."""
    if image.encoding == '32FC1':
        depth = np.frombuffer(image.data, '<f4')
    elif image.encoding in ('16UC1', 'mono16'):
        depth = np.frombuffer(image.data, '<i2').astype(np.float32) / 1000
    else:
        raise Refused(f'invalid depth image encoding: {image.encoding}')
    _check_size(image, info)
    return depth.reshape(image.height, image.width)


def nvblox_mask(image, info):
    """Return the mask of people [H, W] bool."""
    if image.encoding != 'mono8':
        raise Refused(f'invalid mask image encoding: {image.encoding}')
    _check_size(image, info)
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width) > 0


def nvblox_color(image, mask):
    """Raise unless nvblox would integrate the colour image; the mask must have the same size."""
    if image.encoding not in ('rgb8', 'bgra8'):
        raise Refused(f'invalid color image encoding: {image.encoding}')
    _check_size(image, mask)


def _check_size(one, other):
    if (one.height, one.width) != (other.height, other.width):
        raise Broken('a CHECK of sizes ends the process')


def nvblox_people(depth, depth_info, mask, mask_info):
    """Return which pixels [H, W] bool of the depth image go into the map of people.

    Each pixel is projected into the mask's camera. Here both cameras are in the same place, and
    occlusion is ignored.
    """
    metres, masked = nvblox_depth(depth, depth_info), nvblox_mask(mask, mask_info)
    rows = _projected(depth.height, depth_info.k[4:6], mask_info.k[4:6])
    columns = _projected(depth.width, (depth_info.k[0], depth_info.k[2]), mask_info.k[0:3:2])
    inside = ((rows >= 0) & (rows < mask.height))[:, None] & (columns >= 0) & (columns < mask.width)
    rows, columns = rows.clip(0, mask.height - 1), columns.clip(0, mask.width - 1)
    return inside & masked[np.ix_(rows, columns)] & (metres > 0)


def _projected(size, source, target):
    rays = (np.arange(size) + 0.5 - source[1]) / source[0]
    return np.floor(rays * target[0] + target[1]).astype(int)


# MoveIt


def camera_info_topic(image_topic):
    """Return the calibration topic that image_transport's CameraSubscriber uses."""
    parts = [part for part in image_topic.split('/') if part]
    return ''.join(f'/{part}' for part in parts[:-1]) + '/camera_info'


def octomap_depth(image, info, *, skip_rows=0, skip_columns=0, near=0.3, far=5.0):
    """Return the occupied points [N, 3] float64 of DepthImageOctomapUpdater, with no robot in view.

    Args:
        skip_rows, skip_columns: skip_vertical_pixels and skip_horizontal_pixels.
        near, far: limits of the mesh filter in metres; beyond far, space is marked free.
    """
    if image.encoding == '16UC1':
        depth = np.frombuffer(image.data, '<u2') / 1000
    elif image.encoding == '32FC1':
        depth = np.frombuffer(image.data, '<f4').astype(float)
    else:
        raise Refused(f'unexpected encoding type: {image.encoding}')
    if len(depth) < image.height * image.width:
        raise Broken('reads beyond the image')
    # Rows have no padding here: step is ignored.
    depth = depth[: image.height * image.width].reshape(image.height, image.width)
    if np.isnan(depth).any():
        raise Broken('what OpenGL makes of a NaN in a depth texture is undefined')
    if not info.k[0] or not info.k[4]:
        raise Broken('divides by a focal length of 0')
    rows = np.arange(skip_rows, image.height - skip_rows)
    columns = np.arange(skip_columns, image.width - skip_columns)
    z = depth[np.ix_(rows - skip_rows, columns)]  # the updater always starts at the first row
    x = (columns - info.k[2]) / info.k[0] * z
    y = (rows[:, None] - info.k[5]) / info.k[4] * z
    return np.stack([x, y, z], axis=-1)[(z > near) & (z < far)]


def octomap_cloud(cloud, *, subsample=1, max_range=math.inf):
    """Return the occupied points [N, 3] float32 of PointCloudOctomapUpdater, with no robot in
    view."""
    points = _floats(cloud, 'x', 3)  # the updater takes the two floats after x for y and z
    if len(points) < cloud.height * cloud.width:
        raise Broken('reads beyond the cloud')
    points = points[: cloud.height * cloud.width].reshape(cloud.height, cloud.width, 3)
    points = points[::subsample, ::subsample].reshape(-1, 3)
    points = points[~np.isnan(points).any(1)]
    return points[np.linalg.norm(points, axis=1) <= max_range]
