"""The pocket generators: small latent diffusion models that draw, film and play on a CPU.

`text.py` turns a caption into a condition, `unet.py` denoises under it, `autoencoder.py` turns latents
into pixels; `motion.py` adds time. Each is a plain torch module; `layout.py` keeps them in folders of
diffusers' layout, and `pipelines.py` are the same as diffusers classes for those who have diffusers.
"""
