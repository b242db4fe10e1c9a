"""Read a dataset with datumaro, in an environment that has it, and print what it found as JSON.

python read_with_datumaro.py FORMAT PATH HEIGHT WIDTH
"""

import json
import sys

import numpy as np
from datumaro.components.annotation import Mask, Polygon
from datumaro.components.dataset import Dataset
from datumaro.util.mask_tools import rles_to_mask

format_, path, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
dataset = Dataset.import_from(path, format_)
labels = [label.name for label in dataset.categories()[next(iter(dataset.categories()))].items]
found = []
for item in dataset:
    for each in item.annotations:
        if isinstance(each, Polygon):
            mask = rles_to_mask([each.points], width, height)
        elif isinstance(each, Mask):
            mask = each.image
        else:
            continue
        found.append(
            {
                "item": item.id,
                "frame": item.attributes.get("frame"),
                "label": labels[each.label],
                "box": [float(number) for number in each.get_bbox()],
                "attributes": {name: value for name, value in each.attributes.items() if np.isscalar(value)},
                "mask": np.packbits(np.asarray(mask, bool)).tolist(),
            }
        )
print("FOUND", json.dumps(found))
