"""Training of the packaged storybook models: autoencoder, tokenizer, denoiser, detectors and CLIP."""
