"""cultev: how small, quantized language models treat the world's cultures, on a laptop, offline."""

__version__ = "0.1.0"
