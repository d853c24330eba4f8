"""The full-size model: exact parameter counts on the meta device, and a width-reduced copy that runs and trains."""

import copy
import json
import tomllib
from pathlib import Path

import pytest
import tiny_tokens
import torch
from PIL import Image

from anyloom.core.errors import WeightsError
from anyloom.mmllm import fakes
from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.dialogue import Made, Seen, Turn
from anyloom.mmllm.full.imagebind import HUGE, ImageBind, load_published, published_name
from anyloom.mmllm.full.networks import built
from anyloom.mmllm.full.published import load_published as load_nextgpt
from anyloom.mmllm.inference import Speaker
from anyloom.mmllm.model import MultimodalLM
from anyloom.mmllm.recipe import Recipe
from anyloom.mmllm.registry import Parts
from anyloom.training.mmllm.batches import MediaBank, make_batch
from anyloom.training.mmllm.items import Item
from anyloom.training.mmllm.stages import ORDER, PARTS, set_trainable

ROOT = Path(__file__).parents[1]
NARROW = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 300,
}  # fmt: skip


def count(parameters):
    return sum(p.numel() for p in parameters)


def narrow_recipe():
    """`nextgpt-7b` with every width reduced; everything else is as it ships."""
    data = tomllib.loads((ROOT / "mmllm" / "recipes" / "nextgpt-7b.toml").read_text())
    data = copy.deepcopy(data)
    data["backbone"] = {"kind": "vicuna-7b", **NARROW}
    data["lora"]["rank"] = 4
    for part in data["input"].values():
        part["encoder"] |= {"width": 32, "layers": 2}
    for part in data["output"].values():
        part["generator"] = {"kind": part["generator"], "narrow": True}
        part["projector"] = {"kind": "transformer", "width": 32, "layers": 1}
    return Recipe.parse(data)


@pytest.fixture(scope="module")
def narrow():
    torch.manual_seed(0)
    return MultimodalLM.build(narrow_recipe(), Parts.installed(), Setting())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "image.png")
    (folder / "audio.wav").write_bytes(fakes._wav(440, seconds=1.0, rate=16000))
    (folder / "video.mp4").write_bytes(fakes._mp4(b"abc"))
    return {"image": folder / "image.png", "audio": folder / "audio.wav", "video": folder / "video.mp4"}


def test_every_part_of_the_full_model_has_the_published_size():
    with torch.device("meta"):
        model = MultimodalLM.build(Recipe.read("nextgpt-7b"), Parts.installed(), Setting(device="meta"))
    parts = {m: g.networks for m, g in model.generators.items()}
    assert count(parts["image"].unet.parameters()) == 859_520_964
    assert count(parts["image"].vae.parameters()) == 83_653_863
    assert count(parts["image"].text_encoder.parameters()) == 123_060_480
    assert count(parts["video"].unet.parameters()) == 1_411_233_860
    assert count(parts["video"].text_encoder.parameters()) == 340_387_840
    assert count(parts["audio"].unet.parameters()) == 739_139_080
    assert count(parts["audio"].vae.parameters()) == 55_376_873
    assert count(parts["audio"].text_encoder.parameters()) == 125_302_016
    assert count(parts["audio"].vocoder.parameters()) == 55_264_897
    assert count(model.encoders["image"].model.parameters()) == 1_200_781_057
    assert count(model.projectors.parameters()) == 4_198_400, "one linear layer that the three modalities share"
    lm = dict(model.backbone.lm.named_parameters())
    assert count(p for n, p in lm.items() if "lora_" in n) == 33_554_432
    assert count(p for n, p in lm.items() if "lora_" not in n) == 6_738_415_616
    projectors = {m: count(p.parameters()) for m, p in model.output_projectors.items()}
    assert projectors == {"image": 31_958_784, "video": 32_090_112, "audio": 31_788_544}
    assert model.signals.base + model.signals.size == 32_038
    conditions = {m: (g.tokens, g.width) for m, g in model.generators.items()}
    assert conditions == {"image": (77, 768), "video": (77, 1024), "audio": (1, 512)}
    names = set_trainable(model, PARTS)
    assert sum(".lora_" in n for n in names) == 2 * 4 * 32


def test_a_narrow_copy_trains_a_step_end_to_end(narrow, files):
    items = [Item(m, "thing", "", f"a {m}", m, f, "train") for m, f in files.items()]
    set_trainable(narrow, PARTS)
    bank = MediaBank(narrow, items, "cpu")
    talks = [
        [Turn("user", (Seen(m, m), "Make one like this.")), Turn("assistant", ("Here. ", Made(m, f"a {m}", m)))]
        for m in files
    ]
    before = {n: p.clone() for n, p in narrow.deltas().items()}
    optimizer = torch.optim.AdamW([p for p in narrow.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # the second step also moves LoRA's A, whose B was zero
        losses = narrow(make_batch(narrow, bank, talks, seed=1))
        kinds = {n.partition("_")[0] for n in losses}
        assert kinds == {"text", "align", "denoise", "cosine"}
        sum(v for n, v in losses.items() if not n.startswith("cosine")).backward()
        optimizer.step()
        optimizer.zero_grad()
    same = [n for n, p in narrow.deltas().items() if torch.equal(p, before[n])]
    assert not [n for n in same if not n.endswith("bias_k")], "everything that trains has moved"
    set_trainable(narrow, ())


def test_denoising_reaches_the_projector_and_not_the_unet(narrow):
    generator = narrow.generators["video"]
    condition = torch.randn(1, 77, 32, requires_grad=True)
    latents = generator.latents(torch.rand(1, 4, 3, 16, 16))
    generator.denoising_loss(latents, condition, seed=3).backward()
    assert float(condition.grad.abs().sum()) > 0
    assert all(p.grad is None for _, p in generator.named_parameters())


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_a_narrow_copy_makes_files(narrow, modality, tmp_path):
    speaker = Speaker(narrow)
    condition = narrow.generators[modality].text_condition(["a cat"])[0]
    made = [speaker.generate(modality, condition, seed=s, options={"steps": 2}).data for s in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    from anyloom.core.media import Limits, inspect_file

    (tmp_path / "made").write_bytes(made[0])
    assert inspect_file(tmp_path / "made", Limits()).modality == modality


def test_a_narrow_copy_answers_about_every_modality(narrow, files):
    talk = [Turn("user", (*(Seen(m, m) for m in files), "What are these?"))]
    reply = Speaker(narrow).speak(talk, files, max_tokens=4)
    assert reply.prompt_tokens > 3


def test_the_published_checkpoint_is_taken_over_whole(narrow, tmp_path):
    """A checkpoint in the published layout, written from one model, gives the same numbers in another."""
    state = {}
    inner = {"enter": "fc", "transformer": "tfm", "leave": "model"}
    tops = {"image": "gen_text_hidden_fcs", "video": "gen_text_hidden_fcs_video", "audio": "gen_text_hidden_fcs_audio"}
    for name, value in narrow.deltas().items():
        top, _, rest = name.partition(".")
        if top == "projectors":
            state[f"llama_proj.{rest.split('.')[-1]}"] = value
        elif top == "output_projectors":
            modality, part, *last = rest.split(".")
            end = "query_embs" if part == "queries" else ".".join([inner[part], *last])
            state[f"{tops[modality]}.0.{end}"] = value
        elif ".lora_" in name:
            state["llama_model.base_model.model." + name.removeprefix("backbone.lm.").replace(".default", "")] = value
    embed, head = (w.detach() for w in narrow.backbone.rows)
    rows = narrow.rows
    state["llama_model.base_model.model.model.embed_tokens.weight"] = torch.cat([embed, rows.rows.flip(0)])
    state["llama_model.base_model.model.lm_head.weight"] = torch.cat([head, rows.written.flip(0)])
    torch.save({k: v.detach().clone() for k, v in state.items()}, tmp_path / "pytorch_model.pt")
    names = list(reversed(narrow.signals.names))  # an order of their own: ids are read, not assumed
    (tmp_path / "added_tokens.json").write_text(json.dumps({n: 300 + i for i, n in enumerate(names)}))
    torch.manual_seed(9)
    other = MultimodalLM.build(narrow_recipe(), Parts.installed(), Setting())
    load_nextgpt(other, tmp_path)
    for name, value in narrow.deltas().items():
        assert torch.equal(other.deltas()[name], value), name
    state.pop("llama_proj.weight")
    torch.save({k: v.detach().clone() for k, v in state.items()}, tmp_path / "pytorch_model.pt")
    with pytest.raises(WeightsError, match=r"lacks 'projectors.image.map.weight'"):
        load_nextgpt(other, tmp_path)


def test_imagebind_reads_its_published_names():
    model = ImageBind(HUGE.narrowed(16, 1))
    table = {
        "stems.vision.stem.weight": "modality_preprocessors.vision.rgbt_stem.proj.1.weight",
        "stems.audio.stem.weight": "modality_preprocessors.audio.rgbt_stem.proj.weight",
        "stems.audio.norm.bias": "modality_preprocessors.audio.rgbt_stem.norm_layer.bias",
        "stems.depth.stem.weight": "modality_preprocessors.depth.depth_stem.proj.weight",
        "stems.imu.stem.map.weight": "modality_preprocessors.imu.imu_stem.proj.weight",
        "stems.imu.positions": "modality_preprocessors.imu.pos_embed",
        "stems.vision.positions": "modality_preprocessors.vision.pos_embedding_helper.pos_embed",
        "trunks.vision.before.weight": "modality_trunks.vision.pre_transformer_layer.0.weight",
        "trunks.text.blocks.0.fc1.weight": "modality_trunks.text.blocks.0.mlp.fc1.weight",
        "trunks.audio.blocks.0.attn.bias_k": "modality_trunks.audio.blocks.0.attn.bias_k",
        "trunks.text.head.weight": "modality_heads.text.proj.1.weight",
        "trunks.imu.head.weight": "modality_heads.imu.3.weight",
        "trunks.vision.norm.weight": "modality_heads.vision.0.weight",
        "text_scale": "modality_postprocessors.text.1.log_logit_scale",
    }
    known = set(model.state_dict())
    for ours, theirs in table.items():
        assert ours in known
        assert published_name(theirs) == ours
    with pytest.raises(WeightsError, match="no tensor of ImageBind"):
        published_name("modality_trunks.smell.weight")
    with pytest.raises(WeightsError, match="lacks"):
        load_published(model, {"modality_heads.vision.0.weight": torch.zeros(16)})


def test_imagebind_embeds_all_six_modalities():
    model = ImageBind(HUGE.narrowed(16, 1)).eval()
    inputs = {
        "image": torch.rand(2, 3, 224, 224), "video": torch.rand(2, 2, 3, 2, 224, 224),
        "audio": torch.rand(2, 3, 1, 128, 204), "depth": torch.rand(2, 1, 224, 224),
        "thermal": torch.rand(2, 1, 224, 224), "imu": torch.rand(2, 6, 2000), "text": torch.randint(0, 300, (2, 77)),
    }  # fmt: skip
    with torch.no_grad():
        for modality, x in inputs.items():
            found = model.embed(modality, x)
            assert found.shape == (2, 16)
            assert torch.allclose(found.norm(dim=-1), torch.ones(2), atol=1e-4)


def test_a_generator_is_opened_from_a_pipeline_folder(tmp_path):
    networks = built("stable-diffusion-1.5", True, Setting())
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        getattr(networks, part).save_pretrained(tmp_path / part)
    tiny_tokens.clip(tmp_path / "tokenizer")
    parts = Parts.installed()
    generator = parts.make("generator", "stable-diffusion-1.5", {"folder": str(tmp_path)}, Setting())
    assert generator.text_condition(["a"]).shape == (1, 77, 32)
    again = dict(generator.named_parameters())
    assert all(torch.equal(p, again[f"unet.{n}"]) for n, p in networks.unet.named_parameters())
    with pytest.raises(WeightsError, match="no stable-diffusion"):
        parts.make("generator", "stable-diffusion-1.5", {"folder": str(tmp_path / "none")}, Setting())


RECIPE = """
name = "small"
lora = {{ rank = 2, alpha = 4 }}
backbone = {{ kind = "folder", folder = "{base}" }}
[input]
image = {{ encoder = {{ kind = "imagebind-huge", modality = "image", width = 32 }}, projector = "qformer", tokens = 4 }}
[output.image]
generator = {{ kind = "stable-diffusion-1.5", narrow = true }}
projector = {{ kind = "transformer", width = 32, layers = 1 }}
signals = 2
"""


def test_the_commands_build_data_train_and_go_on(tmp_path, capsys):
    from anyloom.agent.cli import main

    base = fakes.toy_parts().make("backbone", "toy", {}, Setting())
    base.lm.save_pretrained(tmp_path / "base")
    base.tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    (tmp_path / "small.toml").write_text(RECIPE.format(base=tmp_path / "base"))
    rows = []
    for n, colour in enumerate(("red", "blue", "green")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{n}.png")
        rows.append({"id": str(n), "concept": colour, "caption": f"a {colour} square", "modality": "image",
                     "file": f"{n}.png", "split": "train"})  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    data, out = str(tmp_path / "data"), tmp_path / "out"
    made = main(["train", "mmllm-data", "--manifest", str(tmp_path / "manifest.jsonl"), "--out", data,
                 "--count", "30", "--pairs", "6", "--no-plain"])  # fmt: skip
    assert made == 0
    train = ["train", "mmllm", "--recipe", str(tmp_path / "small.toml"), "--dialogues", data, "--out", str(out),
             "--batch", "2", "--device", "cpu"]  # fmt: skip
    assert main([*train, "--stage", "preference"]) == 2
    assert "Stage preference needs what stage 3 made" in capsys.readouterr().err
    assert main([*train, "--steps", "2"]) == 0
    assert json.loads((out / "preference" / "model" / "manifest.json").read_text())["stages"] == [
        "1", "2", "3", "repeat", "preference",
    ]  # fmt: skip
    assert main([*train, "--steps", "2", "--resume"]) == 0
    assert capsys.readouterr().out.count("done before") == len(ORDER)
