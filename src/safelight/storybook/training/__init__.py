"""Training of everything that ships with the storybook: autoencoder, tokenizer, denoiser, detectors."""
