"""python3 change_weight.py MODEL OUT: a copy of MODEL whose last layer's down_proj has two rows exchanged, as a bad converter would."""

import json
import shutil
import struct
import sys

model, out = sys.argv[1:]
shutil.copytree(model, out)
path = out + "/model.safetensors"
with open(path, "rb") as f:
    data = bytearray(f.read())
(size,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + size])
name = max(n for n in header if n.endswith(".mlp.down_proj.weight") and ".layers.1." in n)
begin, end = (8 + size + offset for offset in header[name]["data_offsets"])
row = (end - begin) // header[name]["shape"][0]
data[begin : begin + row], data[begin + row : begin + 2 * row] = data[begin + row : begin + 2 * row], data[begin : begin + row]
with open(path, "wb") as f:
    f.write(data)
