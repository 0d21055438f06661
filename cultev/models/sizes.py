"""How large a model is at each quantization, before there is a file."""

from __future__ import annotations

BITS_PER_WEIGHT = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.5625,
    "Q5_K_M": 5.70, "Q5_K_S": 5.57, "Q5_1": 6.0, "Q5_0": 5.5,
    "Q4_K_M": 4.89, "Q4_K_S": 4.67, "Q4_1": 5.0, "Q4_0": 4.66, "IQ4_NL": 4.68, "IQ4_XS": 4.46, "MXFP4_MOE": 8.5,
    "Q3_K_L": 4.30, "Q3_K_M": 4.00, "Q3_K_S": 3.64, "IQ3_M": 3.76, "IQ3_S": 3.66, "Q2_K": 3.16,
    "TQ2_0": 2.06, "TQ1_0": 1.69,
}  # fmt: skip
"""Bits per weight over a whole file. Block formats by their size in ggml; mixtures as llama.cpp's quantizer
documentation gives them for Llama 3.1 8B. Small models take more: their vocabulary weighs more, and is kept finer."""

WEIGHT_BITS = {
    "Q8_0": (8.5, 8.5, 8.5, 8.5),
    "Q4_K_M": (4.5, 5.53, 4.5, 6.5625),
    "int8": (9.0, 9.0, 8.0, 9.0),
    "int4": (5.125, 5.125, 8.0, 5.125),
}
"""Bits of a weight in most matrices, in the feed-forward layers' second matrix, in the embedding, in the output matrix.

GGUF: ggml's block formats as llama.cpp's Q4_K_M mixes them; ONNX: 8 or 4 bits and, per block of 32, a float32 scale
(int4 a zero point of 4 bits too), as ``models quantize`` writes them."""

UNALIGNED_BITS = {"Q4_K_M": (5.5, 7.0, 5.5, 8.5)}
"""The same where a matrix's columns are no multiple of 256: llama.cpp falls back on Q5_0 for Q4_K, Q8_0 for Q6_K."""
