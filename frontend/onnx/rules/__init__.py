"""Import rules by group of operators; see ``frontend.onnx.registry`` for their contract."""
