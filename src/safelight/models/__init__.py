"""Loading models, and how each family of pipelines asks its network."""
