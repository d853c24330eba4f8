"""The full-size model: ImageBind, Stable Diffusion, Zeroscope and AudioLDM as parts; the published checkpoint."""
