"""Model files."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from prato.models.checkpoint import CheckpointError, ModelSpec, load_model, model_preset, read_spec, save_model
from tests.prato.conftest import small_spec


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unetr", "swin_unetr", "overview_swin_unetr", "overview_unet"])
def test_a_model_comes_back_as_it_was(tmp_path, name):
    spec = small_spec(name).model_copy(update={"training": {"seed": 3}})
    network = spec.build().eval()
    path = tmp_path / "model.safetensors"
    version = save_model(path, network, spec)
    again, spec_again, version_again = load_model(path)
    assert read_spec(path) == spec_again
    assert spec_again.training == {"seed": 3} and version_again == version and len(version) == 12
    assert spec_again.pruning_plan() == spec.pruning_plan()
    image = torch.randn(1, 3, spec.window, spec.window)
    with torch.no_grad():
        # stored in half precision
        torch.testing.assert_close(again(image), network(image), atol=2e-2, rtol=2e-2)
    # loading is exact from then on
    assert save_model(tmp_path / "copy.safetensors", again, spec_again) == version


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("transunet", {"img_size": 64, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2, "num_layers": 3, "width": 8, "stages": (2,)}),
        ("segformer", {"widths": (8, 16, 32, 48), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "head_width": 24}),
    ],
)
def test_networks_without_a_preset_come_back_too(tmp_path, network, arguments):
    spec = ModelSpec(network=network, arguments={"in_channels": 1, "out_channels": 4, **arguments}, window=64, pixel=1.5, plan=None)
    built = spec.build()
    version = save_model(tmp_path / "model.safetensors", built, spec)
    again, found, _ = load_model(tmp_path / "model.safetensors")
    assert type(again) is type(built)
    assert save_model(tmp_path / "copy.safetensors", again, found) == version


def test_unused_weights_are_left_out_of_the_file(model_files):
    with safe_open(str(model_files["unetr"]), framework="pt") as file:
        assert not [key for key in file.keys() if "cross_attn" in key]  # noqa: SIM118 - not a dict


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_model_file_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for read in (load_model, read_spec):
        with pytest.raises(CheckpointError, match=r"model\.safetensors is not a model file"):
            read(path)


def test_a_model_file_that_was_cut_short_is_refused(tmp_path, model_files):
    whole, path = model_files["unetr"].read_bytes(), tmp_path / "model.safetensors"
    for share in (0.1, 0.5, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        for read in (load_model, read_spec):
            with pytest.raises(CheckpointError, match=r"model\.safetensors is not a model file"):
                read(path)


def test_weights_of_another_network_are_refused(tmp_path, model_files):
    wrong = small_spec("unetr").model_copy(update={"arguments": {**small_spec("unetr").arguments, "hidden_size": 36, "num_heads": 3}})
    save_model(tmp_path / "m.safetensors", small_spec("unetr").build(), wrong)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m.safetensors")


def test_numbers_too_large_for_half_precision_are_stored_in_single(tmp_path):
    spec = small_spec("unetr")
    network = spec.build()
    (name, variance) = next((name, buffer) for name, buffer in network.named_buffers() if name.endswith("running_var"))
    variance.fill_(1e5)
    version = save_model(tmp_path / "m.safetensors", network, spec)
    again = load_model(tmp_path / "m.safetensors")[0]
    assert torch.equal(again.get_buffer(name), variance)
    assert save_model(tmp_path / "copy.safetensors", again, spec) == version


@pytest.mark.parametrize(
    ("network", "changed", "said"),
    [
        ("click_refiner", {"plan": {"after": [1]}}, "cannot be used. A network of the kind click_refiner prunes nothing"),
        ("unetr", {"arguments": {"norm_name": []}}, "is not a model file"),
        ("unetr", {"arguments": {"num_heads": 0}}, "is not a model file"),
    ],
)
def test_a_header_that_no_network_can_be_built_from_is_refused(tmp_path, network, changed, said):
    spec = model_preset(network)
    whole = {**spec.model_dump(), **changed, "arguments": {**spec.arguments, **changed.get("arguments", {})}}
    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"x": torch.zeros(1)}, {"prato": ModelSpec(**whole).model_dump_json()}))
    with pytest.raises(CheckpointError, match=said):
        load_model(path)


def test_the_model_file_is_not_blamed_for_a_network_that_is_not_here(tmp_path, model_files, monkeypatch):
    path = tmp_path / "mine.safetensors"
    gone = small_spec("unetr").model_copy(update={"network": "linear_vit"})
    path.write_bytes(save({"x": torch.zeros(1)}, {"prato": gone.model_dump_json()}))
    for read in (load_model, read_spec):
        with pytest.raises(CheckpointError, match=r"mine\.safetensors cannot be used\. Its network 'linear_vit' is not here: add"):
            read(path)

    def find() -> list[str]:
        raise ValueError("Two networks are registered as 'unetr'")

    monkeypatch.setattr("prato.models.registry.list_models", find)
    for read in (load_model, read_spec):
        with pytest.raises(ValueError, match=r"^Two networks are registered as 'unetr'"):
            read(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    spec = small_spec("unetr")
    path = tmp_path / "model.safetensors"
    version = save_model(path, spec.build(), spec)
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_model(path, spec.build(), spec)
    assert load_model(path)[2] == version
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("norm", ["instance", ["GROUP", {"num_groups": 2}], None])
@pytest.mark.parametrize("name", ["unetr", "swin_unetr"])
def test_a_decoded_region_that_dense_decoding_would_not_give_is_refused(tmp_path, name, norm):
    spec = small_spec(name)
    arguments = {key: value for key, value in spec.arguments.items() if key != "norm_name"}
    if norm:
        arguments["norm_name"] = norm
    spec = spec.model_copy(update={"arguments": arguments})
    said = r"A pruning plan with decode 'kept' needs the network's norm_name 'batch', not '(instance|GROUP)': use decode 'all'\.$"
    with pytest.raises(ValueError, match="^" + said):
        spec.pruning_plan()
    path = tmp_path / "m.safetensors"
    save_model(path, spec.build(), spec)
    with pytest.raises(CheckpointError, match=r"^m\.safetensors cannot be used\. " + said):
        load_model(path)
    save_model(path, spec.build(), spec.with_plan(replace(small_spec(name).pruning_plan(), decode="all")))
    load_model(path)


def test_batch_normalisation_may_have_settings():
    spec = small_spec("unetr")
    other = spec.model_copy(update={"arguments": {**spec.arguments, "norm_name": ["batch", {"eps": 1e-3}]}})
    assert other.pruning_plan() == spec.pruning_plan()


def test_of_a_file_that_the_system_does_not_give_nobody_says_that_it_is_damaged(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"^model\.safetensors cannot be read \(is a directory\): check the file"):
        load_model(tmp_path / "model.safetensors")
