"""Checks train/safetensors.cc against the format's own library, in both directions.

Run by hand from the root of the source tree, with g++ and nlohmann-json installed:

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install "safetensors>=0.8" numpy
    /tmp/venv/bin/python tests/reference/safetensors_roundtrip.py

It compiles a small program against train/safetensors.cc, which reads a file the library wrote
and writes its tensors again; the two files must be equal byte for byte, and the library must
read the second. With --golden it prints the file that tests/train/safetensors_test.cc holds.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import safetensors
import safetensors.numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]

PROGRAM = r"""
#include <deque>
#include <iostream>
#include "engine/core/buffer.h"
#include "train/safetensors.h"

int main(int, char** argv) try {
  const train::SafetensorsFile in(argv[1]);
  std::deque<engine::Buffer> buffers;
  std::vector<train::NamedTensor> tensors;
  for (const auto& entry : in.entries()) {
    buffers.emplace_back(entry.shape, entry.dtype);
    in.read(entry.name, buffers.back().tensor());
    tensors.insert(tensors.begin(), {entry.name, buffers.back().tensor()});
  }
  train::write_safetensors(argv[2], tensors, in.metadata());
} catch (const engine::Error& error) {
  std::cerr << error.message() << "\n";
  return 1;
}
"""


def build(folder):
    source, program = folder / "copy.cc", folder / "copy"
    source.write_text(PROGRAM)
    parts = ["train/safetensors.cc", "train/file_io.cc", "engine/core/tensor.cc",
             "engine/core/device_memory.cc"]
    subprocess.run([os.environ.get("CXX", "g++"), "-std=c++20", "-O1", f"-I{ROOT}", str(source),
                    *[str(ROOT / part) for part in parts], "-lz", "-o", str(program)], check=True)
    return program


def tensors(seed):
    random = numpy.random.default_rng(seed)
    kinds = [numpy.float32, numpy.float64, numpy.int32, numpy.uint8]
    shapes = [(), (1,), (7,), (3, 5), (2, 0, 4), (2, 3, 4, 5), (1, 2, 1, 3, 1, 2)]
    out = {}
    for i in range(3 * len(shapes)):
        kind, shape = kinds[random.integers(len(kinds))], shapes[i % len(shapes)]
        values = random.normal(size=shape) * 100
        out[f"block{random.integers(12)}/\"t\u00e9nsor\"\\{i}"] = numpy.asarray(
            values if kind in kinds[:2] else numpy.abs(values).astype(numpy.int64) % 256
        ).astype(kind)
    return out


def golden():
    small = {"b/weight": numpy.array([[1, -2, 3]], numpy.float32),
             "a": numpy.array([7, 255, 0], numpy.uint8),
             "scale": numpy.array(0.5, numpy.float64),
             "index": numpy.array([-1, 65536], numpy.int32)}
    return safetensors.numpy.save(small, {"config": "depth = 2\n\"quoted\""})


def main():
    if sys.argv[1:] == ["--golden"]:
        print(golden())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        program = build(folder)
        for seed in range(8):
            theirs, ours = folder / "theirs.safetensors", folder / "ours.safetensors"
            wanted = tensors(seed)
            # One key: the library keeps its metadata in no particular order.
            safetensors.numpy.save_file(wanted, theirs, {"config": f"seed = {seed}\n\t\u00fc"})
            subprocess.run([program, theirs, ours], check=True)
            assert ours.read_bytes() == theirs.read_bytes(), f"seed {seed}: bytes differ"
            got = safetensors.numpy.load_file(ours)
            assert sorted(got) == sorted(wanted)
            for key, value in wanted.items():
                assert got[key].dtype == value.dtype and got[key].shape == value.shape, key
                assert got[key].tobytes() == value.tobytes(), key
        # An empty file, and bf16, which numpy does not know.
        (folder / "in").write_bytes(safetensors.numpy.save({}))
        subprocess.run([program, folder / "in", folder / "out"], check=True)
        assert safetensors.numpy.load_file(folder / "out") == {}
        raw = numpy.frombuffer(b"\x80\x3f\x00\x40\x40\x40", numpy.uint8)

        def spec(dtype, shape, size):
            return safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=raw.ctypes.data,
                                          data_len=size)

        (folder / "in").write_bytes(safetensors.serialize({
            "bytes": spec("uint8", [6], 6),
            "half": spec("bfloat16", [3], 6),
            "whole": spec("int32", [1, 1], 4)}))
        subprocess.run([program, folder / "in", folder / "out"], check=True)
        assert (folder / "in").read_bytes() == (folder / "out").read_bytes()
    print(f"safetensors {safetensors.__version__}: same bytes both ways")


if __name__ == "__main__":
    main()
