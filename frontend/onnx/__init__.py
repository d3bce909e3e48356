"""The ONNX front door: a checked file becomes an ``nn`` module."""
