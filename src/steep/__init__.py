"""Steep: continued pretraining of language models as a managed job."""

__version__ = "0.1.0"
