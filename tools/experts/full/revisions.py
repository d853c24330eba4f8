"""Which commit each repository of the hub is taken at: one table for the whole profile.

    revision("facebook/bart-large-cnn")     # its commit, or "main" where none is known

The hub could not be reached when this was written. Each commit was read in public sources that name it
beside its repository: short ones are the defaults that transformers pins for its pipelines, or stand on the
hub's own history page; full ones are snapshot folders and `revision=` arguments in public GitHub
repositories. None was fetched here. Repositories that are not listed are taken at `main`, which moves.
`anyloom doctor --profile full --download` writes down the commits that it really fetched.
"""

from __future__ import annotations

import re

MAIN = "main"

# Pictures and video
REVISIONS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "stabilityai/sd-turbo": "b261bac6fd2cf515557d5d0707481eafa0485ec2",
    "timbrooks/instruct-pix2pix": "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
    "lllyasviel/sd-controlnet-canny": "7f2f69197050967007f6bbd23ab5e52f0384162a",
    "lllyasviel/sd-controlnet-depth": "35e42a3ea49845b3c76f202f145f257b9fb1b7d4",
    "lllyasviel/sd-controlnet-normal": "1cbed9b3ca84422e4a2f23c14b9f5a114742b31d",
    "lllyasviel/sd-controlnet-seg": "ecdcb5645b5099c9a7500a504fb9ab3f743c4d96",
    "lllyasviel/control_v11p_sd15_canny": "115a470d547982438f70198e353a921996e2e819",
    "lllyasviel/control_v11f1p_sd15_depth": "539f99181d33db39cf1af2e517cd8056785f0a87",
    "lllyasviel/control_v11p_sd15_softedge": "b5bcad0c48e9b12f091968cf5eadbb89402d6bc9",
    "lllyasviel/control_v11p_sd15_normalbae": "cb7296e6587a219068e9d65864e38729cd862aa8",
    "lllyasviel/control_v11p_sd15_openpose": "9ae9f970358db89e211b87c915f9535c6686d5ba",
    "lllyasviel/Annotators": "982e7edaec38759d914a963c48c4726685de7d96",
    "cerspense/zeroscope_v2_576w": "6963642a64dbefa93663d1ecebb4ceda2d9ecb28",
    "ali-vilab/text-to-video-ms-1.7b": "338683c3175cde59b407a699af8fe68f4a2b8f74",  # named under damo-vilab, as it was
    "ali-vilab/i2vgen-xl": "39e1979ea27be737b0278c06755e321f2b4360d5",
    "stabilityai/stable-video-diffusion-img2vid-xt": "9e43909513c6714f1bc78bcb44d96e733cd242aa",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "0fad780a534b6463e45facd96134c9f345acfa5b",
    # Seeing
    "Salesforce/blip-image-captioning-base": "82a37760796d32b1411fe092ab5d4e227313294b",
    "Salesforce/blip-image-captioning-large": "353689b859fcf0523410b1806dace5fb46ecdf41",
    "Salesforce/blip-vqa-base": "787b3d35d57e49572baabd22884b3d5a05acf072",
    "Salesforce/blip2-opt-2.7b": "59a1ef6c1e5117b3f65523d1c6066825bcf315e3",
    "HuggingFaceTB/SmolVLM-500M-Instruct": "a7da5b986cb59b408707209984f360a5f4ad7e47",
    "Qwen/Qwen2.5-VL-3B-Instruct": "66285546d2b821cf421d4f5eb2576359d3770cd3",
    "naver-clova-ix/donut-base-finetuned-docvqa": "b19d2e332684b0e2d35d9144ce34047767335cf8",
    "facebook/detr-resnet-50": "no_timm",  # a branch: `main` is made of a backbone of timm's
    "google/vit-base-patch16-224": "3f49326",
    "microsoft/resnet-50": "34c2154c194f829b11125337b98c8f5f9965ff19",
    "facebook/mask2former-swin-tiny-coco-panoptic": "ec194fdce07f2787a8482d0e10cfc0beb2f3bcb9",
    "Intel/dpt-large": "bc15f29",
    "depth-anything/Depth-Anything-V2-Small-hf": "5426e4f0f36572d16453bbda7a8389317b1bef99",
    "usyd-community/vitpose-base-simple": "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
    # Sound and speech
    "cvssp/audioldm2": "c8e7e189d324425c05c4c2f81214041ef4107983",
    "cvssp/audioldm2-music": "0019cb0",
    "cvssp/audioldm-l-full": "26aec6f",
    "facebook/musicgen-small": "4c8334b02c6ec4e8664a91979669a501ec497792",
    "microsoft/speecht5_tts": "30fcde30f19b87502b8435427b5f5068e401d5f6",
    "microsoft/speecht5_hifigan": "bb6f429406e86a9992357a972c0698b22043307d",
    "suno/bark-small": "1dbd7a1",
    "facebook/wav2vec2-base-960h": "22aad52",
    "superb/wav2vec2-base-superb-ks": "372e048",
    "MIT/ast-finetuned-audioset-10-10-0.4593": "f826b80d28226b62986cc218e5cec390b1096902",
    "laion/clap-htsat-fused": "cca9e28",
    "coqui/XTTS-v2": "6c2b0d75eae4b7047358e3b6bd9325f857d43f77",
    # Text
    "facebook/bart-large-cnn": "37f520fa929c961707657b28798b30c003dd100b",
    "sshleifer/distilbart-cnn-12-6": "a4f8f3ea906ed274767e9906dbaede7531d660ff",
    "google/flan-t5-base": "7bcac572ce56db69c1ea7c8af255c5d7c9672fc2",
    "google/flan-t5-large": "0613663d0d48ea86ba8cb3d7a44f0f65dc596a2a",
    "google/madlad400-3b-mt": "fa184c675da0b5c9e1c8694fccd4e12e2d422094",
    "Helsinki-NLP/opus-mt-en-de": "6183067f769a302e3861815543b9f312c71b0ca4",
    "Helsinki-NLP/opus-mt-en-fr": "dd7f6540a7a48a7f4db59e5c0b9c42c8eea67f18",
    "Helsinki-NLP/opus-mt-en-es": "5bc4493d463cf000c1f0b50f8d56886a392ed4ab",
    "Qwen/Qwen2.5-1.5B-Instruct": "989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "31b70e2e869a7173562077fd711b654946d38674",
    "sentence-transformers/all-mpnet-base-v2": "e8c3b32edf5434bc2275fc9bab85f82640a19130",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": "86741b4e3f5cb7765a600d3a3d55a0f6a6cb443d",
    "dslim/bert-base-NER": "d1a3e8f13f8c3566299d95fcfc9a8d2382a9affc",
    "dbmdz/bert-large-cased-finetuned-conll03-english": "4c53496",
    "facebook/bart-large-mnli": "d7645e1",
    "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli": "6f5cf0a2b59cabb106aca4c287eed12e357e90eb",
    "distilbert/distilbert-base-cased-distilled-squad": "564e9b5",
    "deepset/roberta-base-squad2": "adc3b06f79f797d1c575d5479d6f5efe54a9e3b4",
    "google/tapas-base-finetuned-wtq": "e3dde19",
}


def revision(repository: str) -> str:
    """The commit to take of a repository, `main` where none is known."""
    return REVISIONS.get(repository, MAIN)


def moves(name: str) -> bool:
    """Whether what a revision names can change: a branch, not a commit."""
    return not re.fullmatch(r"[0-9a-f]{7,40}", name)
