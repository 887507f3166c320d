"""What MONAI Label's own 3D Slicer module, OHIF plugin and client library send, to the real server."""

from __future__ import annotations

import io
import os
import zlib

import nibabel as nib
import nrrd
import numpy as np
import requests
import SimpleITK as sitk
from monailabel.client import MONAILabelClient

from prato.data.structures import STRUCTURES
from tests.app.live import LiveServer

ROI = [8, 32, 6, 30, 1, 4]


def test_what_the_stock_slicer_module_sends(live_server: LiveServer) -> None:
    params = {
        **{name: [] for name in STRUCTURES},
        **{"label": "myocardium", "device": "cpu", "prune": "default", "return_tokens": False, "roi": [32, 8, 6, 30, 1, 4]},
        **{"reset_state": True, "result_extension": ".nrrd", "result_dtype": "uint8"},
    }
    file, reply = MONAILabelClient(live_server.url).infer("prato_unetr", "heart_a", params)
    try:
        labels = sorted(reply["label_names"], key=reply["label_names"].get)
        assert labels == list(STRUCTURES)
        assert file.endswith(".nrrd")
        mask, image = sitk.ReadImage(file), sitk.ReadImage(str(live_server.studies / "heart_a.nii.gz"))
    finally:
        os.unlink(file)
    assert mask.GetSize() == image.GetSize()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, get)(), getattr(image, get)(), atol=1e-5)
    plain = live_server.infer("prato_unetr", "heart_a", {"roi": ROI}).file
    volume = nib.Nifti1Image.from_bytes(zlib.decompress(plain or b"", 31))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).T, np.asarray(volume.dataobj))


def test_what_the_stock_ohif_plugin_sends(live_server: LiveServer) -> None:
    params = {
        **{"background": [], "LV cavity": [[20, 18, 2]], "restore_label_idx": False},
        **{"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False},
    }
    reply = live_server.infer("prato_swin_unetr", "heart_a", params, output="all")
    assert reply.status == 200, reply.json
    assert reply.json["box_source"] == "points"
    header = nrrd.read_header(io.BytesIO(reply.file or b""))
    assert header["type"] in ("uint8", "unsigned char")
    assert header["space"] == "left-posterior-superior"


def test_next_sample_and_the_automatic_model_go_together(live_server: LiveServer) -> None:
    strategy = next(iter(requests.get(f"{live_server.url}/info/", timeout=200).json()["strategies"]))
    sample = live_server.post(f"/activelearning/{strategy}", {})
    assert sample.status == 200, sample.json
    assert (live_server.studies / f"{sample.json['id']}.nii.gz").is_file()


def test_a_volume_that_the_stock_slicer_module_has_from_dicom(live_server: LiveServer) -> None:
    """Its name is that of the series: the module uploads it under that name before it segments, and goes on with the name it sent."""
    client, name = MONAILabelClient(live_server.url), "6: cine (SA)"
    client.upload_image(str(live_server.studies / "heart_a.nii.gz"), name)
    try:
        file, reply = client.infer("prato_unetr", name, {"roi": ROI})
        os.unlink(file)
        assert reply["box"] == ROI
        assert client.datastore()["objects"][name]["image"]["info"]["name"] == f"{name}.nii.gz"
    finally:
        assert requests.delete(f"{live_server.url}/datastore/image", params={"id": name}, timeout=200).ok
