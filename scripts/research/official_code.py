"""The authors' own code beside the baselines here: scores and kept tokens on the same weights and tokens, number by number.

    python scripts/research/official_code.py --dynamic-vit DynamicViT --evo-vit Evo-ViT --dtop Dynamic-Token-Pruning --tome ToMe \
        --stp TokenSparse-for-MedSeg --algm algm-segmenter

Each option names a checkout of the method's public repository; nothing of it is in this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from scripts.common.paths import RESULTS
from scripts.common.provenance import origin
from scripts.common.refusals import checked_table, refuses_in_one_sentence
from scripts.common.results import Row, replace_rows
from scripts.research.official import algm as official_algm
from scripts.research.official import dtop as official_dtop
from scripts.research.official import dynamic_vit as official_dynamic_vit
from scripts.research.official import evo_vit as official_evo_vit
from scripts.research.official import stp as official_stp
from scripts.research.official import tome as official_tome


@refuses_in_one_sentence
def main(
    dynamic_vit: Annotated[Path | None, typer.Option(help="Checkout of raoyongming/DynamicViT.")] = None,
    evo_vit: Annotated[Path | None, typer.Option(help="Checkout of YifanXu74/Evo-ViT.")] = None,
    dtop: Annotated[Path | None, typer.Option(help="Checkout of zbwxp/Dynamic-Token-Pruning.")] = None,
    tome: Annotated[Path | None, typer.Option(help="Checkout of facebookresearch/ToMe.")] = None,
    stp: Annotated[Path | None, typer.Option(help="Checkout of cvlab-stonybrook/TokenSparse-for-MedSeg.")] = None,
    algm: Annotated[Path | None, typer.Option(help="Checkout of tue-mps/algm-segmenter.")] = None,
    out: Annotated[Path, typer.Option(callback=checked_table, help="CSV file of the differences.")] = RESULTS / "official_code.csv",
) -> None:
    """Write the largest differences for each method whose code is given; rows of the others stay."""
    given = {
        "dynamic_vit": (official_dynamic_vit.compare, dynamic_vit),
        "evo_vit": (official_evo_vit.compare, evo_vit),
        "dtop": (official_dtop.compare, dtop),
        "tome": (official_tome.compare, tome),
        "stp": (official_stp.compare, stp),
        "algm": (official_algm.compare, algm),
    }
    rows: list[Row] = []
    made = {"threads": torch.get_num_threads(), "seed": 0, **origin()}
    if not any(folder for _, folder in given.values()):
        raise ValueError("Give the checkout of at least one method, such as --tome FOLDER.")
    for method, (compare, folder) in given.items():
        if folder is not None:
            torch.manual_seed(0)
            rows += [{"method": method, **row, **made} for row in compare(folder)]
    replace_rows(out, rows, ("method",))
    typer.echo("\n".join(f"{row['method']}: {row['what']}: {row['outcome']}" for row in rows))


if __name__ == "__main__":
    typer.run(main)
