"""PrismRec: multimodal recommendation, from a data set to honest rankings."""

__version__ = "0.1.0"
