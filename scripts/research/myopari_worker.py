"""Segments volumes with myopari's network for ACDC, in an environment of its own; imports nothing of this project.

    python myopari_worker.py OUT STUDY.nii.gz ...

Needs numpy, scikit-image, onnxruntime, nibabel, and myopari without what its window needs (``pip install --no-deps myopari``). Writes
each mask to OUT under the study's name, and to ``times.json`` the milliseconds of its network on 10 slices, on one CPU thread.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

#: Slices that are timed, of so many volumes, so often each.
SLICES, TIMED, ROUNDS = 10, 2, 2


def main() -> None:
    """Segment and time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the masks")
    parser.add_argument("studies", metavar="STUDY", type=Path, nargs="+", help="volume, .nii.gz")
    given = parser.parse_args()
    found = importlib.util.find_spec("myopari")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("onnxruntime") is None:
        parser.exit(2, "myopari or onnxruntime is not installed here: install what --help names.\n")
    onnxruntime = importlib.import_module("onnxruntime")
    out, studies = given.out, given.studies
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(found.submodule_search_locations[0])
    sys.path.insert(0, str(folder / "processors"))  # the package itself imports its window, and its processors a GPU's libraries
    functions = importlib.import_module("functions_utils")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = str(folder / "Resources" / "tiramisu_acdc_fp32.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    times = []
    for number, study in enumerate(studies):
        image = nib.nifti1.load(study)
        data = functions.preprocess_data_array(image.get_fdata())
        mask = functions.predict_data_model(data, session, num_classes=4, min_size_remove=800, onnx=True).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, image.affine), out / study.name)
        slices = data["image"]
        if number < TIMED:
            ten = slices[np.arange(SLICES).clip(max=len(slices) - 1)]
            for _ in range(ROUNDS):
                start = time.thread_time()
                functions.predict_patches_onnx_gpu(ten, session)
                times.append(1000 * (time.thread_time() - start))
        print(study.name, flush=True)
    about = {"version": importlib.metadata.version("myopari"), "ms": float(np.median(times))}
    (out / "times.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
