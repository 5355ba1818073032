"""Samples of a known mixture by a small adversarial network: an example app, and a test bed for steadying."""
