"""Evaluation of a pack on labeled videos: frames of every selector are recognized, scored and drawn."""
