"""Networks for other runtimes: ONNX models and exported torch programs."""
