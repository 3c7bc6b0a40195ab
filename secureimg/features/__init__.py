"""Image features as graphs: the same function in the clear, on CKKS ciphertexts and on additive shares."""
