"""The data sets of the studies, each under the split that it carries and under leave-one-out.

    python -m benchmarks.studies_data DATA_FOLDER STUDY_DATA --images ML100K_IMAGE_FEATURES.npy

DATA_FOLDER holds ``ml100k``, ``tiktok``, ``baby`` in MMRec's layout; ML-100k comes without image features, so that those of
its posters are given apart (a row an item, zeros where there is no poster). The rows that are left out are random ones, of a
seed: Baby and TikTok have no times.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from prismrec.data.dataset import Dataset
from prismrec.data.modalities import load_array, modality
from prismrec.data.sources import read
from prismrec.data.splits import leave_one_out
from prismrec.data.store import save

SEED = 0


def both_splits(dataset: Dataset) -> dict[str, Dataset]:
    """Name of the folder → the data set under its own split and under leave-one-out."""
    return {dataset.name: dataset, f"{dataset.name}-loo": leave_one_out(dataset, order="random", seed=SEED)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that holds ml100k, tiktok and baby")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, help="image features of ML-100k, .npy")
    args = parser.parse_args()
    for name in ("ml100k", "tiktok", "baby"):
        if not (args.folder / name).is_dir() or (name == "ml100k" and args.images is None):
            print(f"{name}: left out")
            continue
        dataset = read(args.folder / name, name=name)
        if name == "ml100k":
            image = modality(load_array(args.images), "image", dataset.n_items)
            dataset = replace(dataset, modalities={"image": image, **dataset.modalities})
        for folder, one in both_splits(dataset).items():
            if not (args.out / folder).exists():
                save(one, args.out / folder)
            lacking = {m: int((~found.present).sum()) for m, found in one.modalities.items()}
            print(f"{folder}: {len(one.interactions):,} rows, items without {lacking}")


if __name__ == "__main__":
    main()
