"""Make an fp32 graph smaller and faster: int8 quantization, pruning of unused computation, vocabulary reduction."""
