"""Generated hearts in Slicer's Sample Data module: two phases of one heart, for a first try and for the tutorial."""

from __future__ import annotations

import hashlib
from pathlib import Path

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
CATEGORY = "PrATo Label"
SAMPLE = "PratoLabelPhantomHeart"
#: Named as phases of one patient, so that the panel measures the ejection fraction once both are labelled.
PHASES = ("phantom001_ED", "phantom001_ES")


def register_sample_data() -> None:
    """Offer the hearts. They come with the extension, so that nothing is downloaded."""
    import SampleData

    paths = [RESOURCES / "SampleData" / f"{name}.nii.gz" for name in PHASES]
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE,
        thumbnailFileName=str(RESOURCES / "Icons" / f"{SAMPLE}.png"),
        uris=[path.as_uri() for path in paths],
        fileNames=[f"PratoLabel-{path.name}" for path in paths],
        nodeNames=list(PHASES),
        # a file of the same name that an earlier version of the extension left in Slicer's cache is replaced
        checksums=[f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths],
    )
